/* Figures and health, for monitoring. A thread of libmicrohttpd's. */
#ifndef DAEMON_HTTP_HEALTH_H
#define DAEMON_HTTP_HEALTH_H

#include "daemon/http/answer.h"

/* /healthz: whether the daemon turns. A supervisor that restarts it otherwise does right. */
enum MHD_Result http_healthz(const struct http_call *call);

/* /readyz: whether it serves. While it drains, say, a balancer does well to ask another. */
enum MHD_Result http_readyz(const struct http_call *call);

/* /metrics: the text of METRICS.md, in OpenMetrics; at most a second old. */
enum MHD_Result http_metrics(const struct http_call *call);

#endif
