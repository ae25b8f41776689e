/*
 * What tests/unit/cap uses of cmocka, for programs that cannot be linked with it: its library is
 * there for the machine's own word size only. The first failure ends the program.
 */
#ifndef TESTS_NARROW_STAND_INS_CMOCKA_H
#define TESTS_NARROW_STAND_INS_CMOCKA_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*test)(void **state);
};

#define cmocka_unit_test(function)                                                                 \
    {                                                                                              \
#function, function                                                                        \
    }

#define fail_msg(...)                                                                              \
    (fprintf(stderr, "%s:%d: ", __FILE__, __LINE__), fprintf(stderr, __VA_ARGS__),                 \
     fprintf(stderr, "\n"), exit(1))

#define require_(condition, text) ((condition) ? (void)0 : fail_msg("%s", text))
#define whole_(a)                 ((unsigned long long)(a))

#define assert_true(a)                 require_(a, #a)
#define assert_false(a)                require_(!(a), "not " #a)
#define assert_null(a)                 require_((a) == NULL, #a " is NULL")
#define assert_non_null(a)             require_((a) != NULL, #a " is not NULL")
#define assert_ptr_equal(a, b)         require_((a) == (b), #a " is " #b)
#define assert_int_equal(a, b)         require_(whole_(a) == whole_(b), #a " is " #b)
#define assert_int_not_equal(a, b)     require_(whole_(a) != whole_(b), #a " is not " #b)
#define assert_string_equal(a, b)      require_(strcmp(a, b) == 0, #a " is " #b)
#define assert_string_not_equal(a, b)  require_(strcmp(a, b) != 0, #a " is not " #b)
#define assert_memory_equal(a, b, len) require_(memcmp(a, b, len) == 0, #a " is " #b)

#define print_message printf

/* Ends a test that says nothing where a size_t is narrow. */
#define skip()                                                                                     \
    do {                                                                                           \
        printf("skipped: ");                                                                       \
        return;                                                                                    \
    } while (0)

#define cmocka_run_group_tests(tests, setup, teardown)                                             \
    run_tests_(tests, sizeof(tests) / sizeof((tests)[0]))

static inline int run_tests_(const struct CMUnitTest *tests, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        void *state = NULL;

        tests[i].test(&state);
        printf("%s\n", tests[i].name);
    }
    return 0;
}

#endif
