# Unit tests of the admin socket, included from CMakeLists.txt.
capstore_unit_test(admin_jsonrpc test_admin_jsonrpc.c LIBS capstore_daemon)
foreach(test events health keep methods server socket store)
    capstore_unit_test(admin_${test} test_admin_${test}.c test_admin_fixture.c test_admin_peer.c
        LIBS capstore_daemon store_memory)
    target_compile_definitions(test_admin_${test} PRIVATE
        ADMIN_DIR="${PROJECT_SOURCE_DIR}/daemon/admin")
endforeach()
