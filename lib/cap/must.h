/*
 * Assertions, in two grades, for what must hold inside whatever a peer, a caller or a disk says.
 * Never on input: a mistake there is an error that is returned.
 *
 *     must(x)    in every build. A program that goes on would answer or store something wrong.
 *     expect(x)  in debug and sanitizer builds only: costs time, or its failure does little harm.
 *
 * Both write the program's name, the place and the expression to standard error and abort, as
 * assert does. A program with libcapstore sees that only when the library itself is at fault. Any
 * thread.
 */
#ifndef LIB_CAP_MUST_H
#define LIB_CAP_MUST_H

#if !defined(NDEBUG) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MUST_EXPECT 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
    __has_feature(undefined_behavior_sanitizer)
#define MUST_EXPECT 1
#endif
#endif

#define must(x) ((x) ? (void)0 : must_failed(#x, __FILE__, __LINE__))

#ifdef MUST_EXPECT
#define expect(x) must(x)
#else
#define expect(x) ((void)sizeof((x) ? 1 : 0))
#endif

/* Says what did not hold, and where, and aborts. */
_Noreturn void must_failed(const char *expression, const char *file, int line);

#endif
