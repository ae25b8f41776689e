# HTTP, included from daemon/CMakeLists.txt.
if(NOT CAPSTORE_HTTP)
    target_sources(capstore_daemon PRIVATE http/absent.c)
    return()
endif()
target_sources(capstore_daemon PRIVATE
    http/answer.c
    http/body.c
    http/caps.c
    http/client.c
    http/closure.c
    http/health.c
    http/html.c
    http/http.c
    http/info.c
    http/page.c
    http/parts.c
    http/ranges.c
    http/request.c
    http/slice.c
    http/wait.c)
target_link_libraries(capstore_daemon PUBLIC PkgConfig::MICROHTTPD)
