# The admin socket, included from daemon/CMakeLists.txt.
target_sources(daemon PRIVATE
    admin/admin.c
    admin/body_reader.c
    admin/connection.c
    admin/error.c
    admin/explain.c
    admin/explain_data.c
    admin/explain_image.c
    admin/jsonrpc.c
    admin/level.c
    admin/methods.c
    admin/methods_meta.c
    admin/methods_server.c
    admin/methods_store.c
    admin/metrics.c
    admin/notes.c
    admin/params.c
    admin/reference.c
    admin/structure.c
    admin/text.c
    admin/value.c)
