/*
 * Replays a corpus through a fuzz target without libFuzzer: every file of the directories named on
 * the command line, once. Fails when there are no files, so that a lost corpus is
 * noticed; a property that does not hold aborts in the target.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path, size_t size)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return -1;
    }
    /* Exactly its size, so that a sanitizer sees a read past the end. */
    uint8_t *data = malloc(size > 0 ? size : 1);
    int result = -1;
    if (data != NULL && fread(data, 1, size, file) == size) {
        result = LLVMFuzzerTestOneInput(data, size);
    } else {
        fprintf(stderr, "%s: cannot read\n", path);
    }
    free(data);
    fclose(file);
    return result;
}

/* Returns how many files were replayed, or -1. */
static long replay_directory(const char *name)
{
    DIR *directory = opendir(name);
    if (directory == NULL) {
        perror(name);
        return -1;
    }
    long count = 0;
    const struct dirent *entry;
    while (count >= 0 && (entry = readdir(directory)) != NULL) {
        char path[4096];
        struct stat info;
        int len = snprintf(path, sizeof(path), "%s/%s", name, entry->d_name);
        if (len < 0 || (size_t)len >= sizeof(path) || stat(path, &info) != 0) {
            fprintf(stderr, "%s/%s: cannot look at it\n", name, entry->d_name);
            count = -1;
        } else if (S_ISREG(info.st_mode)) {
            count = replay_file(path, (size_t)info.st_size) == 0 ? count + 1 : -1;
        }
    }
    closedir(directory);
    return count;
}

int main(int argc, char **argv)
{
    long total = 0;
    for (int i = 1; i < argc; i++) {
        long count = replay_directory(argv[i]);
        if (count < 0) {
            return EXIT_FAILURE;
        }
        total += count;
    }
    printf("%ld files replayed\n", total);
    return total > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
