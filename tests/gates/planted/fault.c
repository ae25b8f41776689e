/*
 * Faults planted on purpose, one per argument, each of which its sanitizer must report. Built with
 * the flags of every other target, so that a build whose sanitizer sleeps is noticed.
 */
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the compiler cannot follow, it can neither warn of nor optimise away. */
static char *volatile bytes;

/* `one` is 1, which the compiler cannot know either. */
static int heap_overflow(int one)
{
    bytes = malloc(8);
    bytes[7 + one] = 1;
    int read = bytes[0];
    free(bytes);
    return read;
}

static int use_after_free(int one)
{
    bytes = malloc(8);
    bytes[0] = (char)one;
    free(bytes);
    return bytes[0];
}

static int leak(int one)
{
    bytes = malloc((size_t)one * 16);
    bytes = NULL;
    return one;
}

static int signed_overflow(int one)
{
    volatile int sum = INT_MAX;
    sum = sum + one;
    return sum;
}

static int bad_shift(int one)
{
    volatile int width = 31 + one;
    return one << width;
}

static int shared_counter;

static void *count(void *unused)
{
    (void)unused;
    for (int i = 0; i < 10000; i++) {
        shared_counter++;
    }
    return NULL;
}

static int data_race(int one)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, count, NULL) != 0) {
        return 0;
    }
    count(NULL);
    (void)pthread_join(thread, NULL);
    return shared_counter + one;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*plant)(int one);
    } faults[] = {
        {"heap_overflow", heap_overflow},
        {"use_after_free", use_after_free},
        {"leak", leak},
        {"signed_overflow", signed_overflow},
        {"bad_shift", bad_shift},
        {"data_race", data_race},
    };
    for (size_t i = 0; argc == 2 && i < sizeof(faults) / sizeof(faults[0]); i++) {
        if (strcmp(argv[1], faults[i].name) == 0) {
            printf("%d: the fault went unnoticed\n", faults[i].plant(argc - 1));
            return 0;
        }
    }
    return 2;
}
