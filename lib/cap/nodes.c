/* Interior nodes of a tree of pages. */
#include "lib/cap/nodes.h"

#include <stdlib.h>

void cap_node_list_add(struct cap_node_list *list, unsigned level, uint64_t index,
                       const struct cap_hash *hash)
{
    if (level % CAP_NODE_STEP != 0 || level > CAP_NODE_STEP * CAP_NODE_LEVELS) {
        return;
    }
    size_t i = level / CAP_NODE_STEP - 1;
    uint64_t first = list->first[i];
    uint64_t count = list->roots - first;
    list->first[i] = list->roots;
    if (count < CAP_NODE_PAGES || list->error != CAP_OK) {
        return;
    }
    struct cap_node node = {.hash = *hash};
    cap_store32(node.index, (uint32_t)index);
    cap_store32(node.first, (uint32_t)first);
    cap_store32(node.count, (uint32_t)count);
    list->error = cap_buf_append(&list->kept[i], &node, sizeof(node));
}

/* The node that covers every page, if there is one, is the only one of its level. */
static void drop_needless(struct cap_node_list *list)
{
    for (size_t i = 0; i < CAP_NODE_LEVELS; i++) {
        struct cap_buf *kept = &list->kept[i];
        if (list->roots <= CAP_NODES_ABOVE) {
            cap_buf_free(kept);
        } else if (kept->len == sizeof(struct cap_node)) {
            struct cap_node node;
            memcpy(&node, kept->data, sizeof(node));
            kept->len = cap_load32(node.count) == list->roots ? 0 : kept->len;
        }
    }
}

enum cap_error cap_node_list_finish(struct cap_node_list *list, struct cap_nodes *ret_nodes)
{
    struct cap_nodes nodes = {0};
    struct cap_buf *all = &list->kept[0];
    enum cap_error error = list->error;
    drop_needless(list);
    for (size_t i = 0; error == CAP_OK && i < CAP_NODE_LEVELS; i++) {
        struct cap_bytes level = cap_buf_bytes(&list->kept[i]);
        nodes.counts.of[i] = (uint32_t)(level.len / sizeof(struct cap_node));
        error = i > 0 ? cap_buf_append(all, level.data, level.len) : CAP_OK;
    }
    if (error == CAP_OK && all->len > 0) {
        nodes.all = (struct cap_node *)(void *)all->data; /* of bytes only */
        *all = (struct cap_buf){0};
    }
    cap_node_list_free(list);
    if (error == CAP_OK) {
        *ret_nodes = nodes;
    }
    return error;
}

void cap_node_list_free(struct cap_node_list *list)
{
    for (size_t i = 0; i < CAP_NODE_LEVELS; i++) {
        cap_buf_free(&list->kept[i]);
    }
    *list = (struct cap_node_list){0};
}
