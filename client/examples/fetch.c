/* Fetches a program by its hash, verified, and says where its code goes: fetch ADDRESS HASH */
#include <capstore/capstore.h>
#include <inttypes.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    struct capstore *store;
    struct capstore_cap *cap = NULL;
    struct capstore_hash hash;
    struct capstore_code code = {NULL, 0, 0};

    if (argc != 3 || capstore_hash_parse(argv[2], &hash) != CAPSTORE_OK ||
        capstore_new(NULL, &store) != CAPSTORE_OK) {
        return 2;
    }
    enum capstore_error error = capstore_connect(store, argv[1]);
    if (error == CAPSTORE_OK) {
        error = capstore_get(store, &hash, &cap);
    }
    if (error == CAPSTORE_OK) {
        error = capstore_code_load(cap, &code); /* page-aligned, ready to map at CODE_BASE */
    }
    if (error == CAPSTORE_OK) {
        printf("%zu bytes of code for 0x%" PRIx64 "\n", code.len, CAPSTORE_CODE_BASE);
    } else {
        fprintf(stderr, "%s: %s\n", capstore_error_name(error), capstore_message(store));
    }
    capstore_code_free(&code);
    capstore_cap_free(cap);
    capstore_free(store);
    return error == CAPSTORE_OK ? 0 : 1;
}
