/* Results that several commands print, and the way each of them is printed. */
#ifndef CLIENT_CAPCTL_RESULT_H
#define CLIENT_CAPCTL_RESULT_H

#include "client/capctl/file.h"
#include "client/capctl/out.h"

/* Prints the object where results go, and releases it. Returns `exit`, or CLI_FAILED when it is
 * NULL or cannot be written. */
enum cli_exit cli_print(struct cli *cli, json_t *object, enum cli_exit exit);

/* What `check` prints of a judged Image; CLI_DONE for accepted, CLI_NO for refused. `warnings`,
 * which may be NULL, is an array of more of them, and released. `message`, unless NULL, replaces
 * that of a refusal. */
enum cli_exit cli_print_check(struct cli *cli, const struct capstore_check_result *check,
                              json_t *warnings, const char *message);

#define CLI_NATURE_SIZE 160

/*
 * What a file is that was taken for something else: empty, a program, a manifest, a served body, a
 * wire Image. True with a sentence that says so and which command takes it; false when nothing is
 * known of it. Reads as much as it takes.
 */
bool cli_recognise(const struct cli_input *input, char ret_sentence[CLI_NATURE_SIZE]);

#define CLI_SSZ_SIZE 240

/*
 * What is said of a file that was refused as `ssz` because of `why`: what it is, or that it is not
 * a wire Image where it does not even begin like one, or `why`.
 */
const char *cli_ssz_text(const struct cli_input *input, const char *why,
                         char ret_text[CLI_SSZ_SIZE]);

/* Judges a wire Image with progress shown. NULL after saying what is wrong: *ret_exit. */
struct capstore_check_result *cli_judge(struct cli *cli, const struct capstore_source *wire,
                                        enum cli_exit *ret_exit);

#endif
