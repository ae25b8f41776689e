/*
 * Lists of requests, linked both ways and through their head. (musl has no sys/queue.h.)
 */
#ifndef CLIENT_LIB_LIST_H
#define CLIENT_LIB_LIST_H

#include <stddef.h>

/* A place in a list, or its head. */
struct client_link {
    struct client_link *next;
    struct client_link *before;
};

/* Makes an empty list of a head. */
static inline void client_list_init(struct client_link *head)
{
    head->next = head->before = head;
}

/* The first place, or NULL in an empty list. */
static inline struct client_link *client_list_first(const struct client_link *head)
{
    return head->next != head ? head->next : NULL;
}

/* Takes the first place out of a list that is not empty. */
static inline struct client_link *client_list_take(struct client_link *head)
{
    struct client_link *link = head->next;
    head->next = link->next;
    head->next->before = head;
    return link;
}

/* The last place, or NULL in an empty list. */
static inline struct client_link *client_list_last(const struct client_link *head)
{
    return head->before != head ? head->before : NULL;
}

/* Puts something at the end of a list. */
static inline void client_list_add(struct client_link *head, struct client_link *link)
{
    link->next = head;
    link->before = head->before;
    head->before->next = link;
    head->before = link;
}

/* Takes something out of the list that it is in. */
static inline void client_list_remove(struct client_link *link)
{
    link->next->before = link->before;
    link->before->next = link->next;
}

#endif
