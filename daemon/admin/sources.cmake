# The admin socket, included from daemon/CMakeLists.txt.
target_sources(capstore_daemon PRIVATE
    admin/admin.c
    admin/ask.c
    admin/body_reader.c
    admin/connection.c
    admin/error.c
    admin/explain.c
    admin/explain_data.c
    admin/explain_image.c
    admin/gauges.c
    admin/health.c
    admin/commands.c
    admin/jsonrpc.c
    admin/level.c
    admin/methods.c
    admin/methods_config.c
    admin/methods_jobs.c
    admin/methods_keep.c
    admin/methods_meta.c
    admin/methods_quota.c
    admin/methods_scrub.c
    admin/methods_server.c
    admin/methods_store.c
    admin/methods_upkeep.c
    admin/methods_why.c
    admin/metrics.c
    admin/warnings.c
    admin/params.c
    admin/reference.c
    admin/shapes.c
    admin/structure.c
    admin/subscription.c
    admin/text.c
    admin/value.c)

# The reference in ADMIN.md and the man page are written by the table of methods.
add_executable(capstore_admin_doc admin/doc_main.c)
target_link_libraries(capstore_admin_doc PRIVATE capstore_daemon)
add_custom_command(
    OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/capstore-admin.7
    COMMAND capstore_admin_doc man > ${CMAKE_CURRENT_BINARY_DIR}/capstore-admin.7
    DEPENDS capstore_admin_doc VERBATIM)
add_custom_target(capstore_admin_man ALL
    DEPENDS ${CMAKE_CURRENT_BINARY_DIR}/capstore-admin.7)
if(CAPSTORE_INSTALL)
    install(FILES ${CMAKE_CURRENT_BINARY_DIR}/capstore-admin.7
        DESTINATION ${CMAKE_INSTALL_MANDIR}/man7 COMPONENT daemon)
    install(FILES admin/METRICS.md admin/monitoring/alerts.yml admin/monitoring/dashboard.json
        DESTINATION ${CMAKE_INSTALL_DATADIR}/capstore/monitoring COMPONENT daemon)
endif()
