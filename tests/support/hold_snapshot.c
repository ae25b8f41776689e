/* Reads a store's file behind the daemon's back: opens a snapshot, says so, and keeps it. */
#include <lmdb.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    MDB_env *env = NULL;
    MDB_txn *txn = NULL;
    if (argc != 2 || mdb_env_create(&env) != 0 ||
        mdb_env_open(env, argv[1], MDB_NOSUBDIR | MDB_RDONLY, 0) != 0 ||
        mdb_txn_begin(env, NULL, MDB_RDONLY, &txn) != 0) {
        return 1;
    }
    puts("holding");
    fflush(stdout);
    pause();
    return 0;
}
