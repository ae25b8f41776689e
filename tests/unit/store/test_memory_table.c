#include "tests/support/memory_table.h"

#include "tests/unit/support.h"

struct item {
    uint8_t key[2];
    uint8_t value;
};

static struct memory_table new_table(void)
{
    return (struct memory_table){.item_size = sizeof(struct item), .key_size = 2};
}

/* Against a plain array of all keys, with inserts in a scattered order. */
static void test_against_model(void **state)
{
    struct memory_table table = new_table();
    uint8_t model[1024] = {0};
    size_t count = 0;

    (void)state;
    for (unsigned i = 0; i < 3000; i++) {
        unsigned key = i * 7919u % 1024u;
        struct item item = {{(uint8_t)(key >> 8), (uint8_t)key}, (uint8_t)(i % 255 + 1)};

        count += model[key] == 0;
        model[key] = item.value;
        assert_cap_ok(memory_table_put(&table, &item));
        assert_int_equal(table.count, count);
    }
    for (unsigned key = 0; key < 1024; key++) {
        uint8_t bytes[2] = {(uint8_t)(key >> 8), (uint8_t)key};
        const struct item *found = memory_table_find(&table, bytes);

        assert_int_equal(found ? found->value : 0, model[key]);
        if (found) {
            assert_ptr_equal(found, memory_table_at(&table, memory_table_seek(&table, bytes)));
        }
    }
    memory_table_free(&table);
}

static void test_edges(void **state)
{
    struct memory_table table = new_table();
    struct item item = {{5, 0}, 1};

    (void)state;
    assert_null(memory_table_find(&table, item.key));
    assert_int_equal(memory_table_seek(&table, item.key), 0);
    assert_cap_ok(memory_table_put(&table, &item));
    assert_int_equal(memory_table_seek(&table, (uint8_t[2]){4, 255}), 0);
    assert_int_equal(memory_table_seek(&table, (uint8_t[2]){5, 1}), 1);
    assert_null(memory_table_find(&table, (uint8_t[2]){5, 1}));
    memory_table_free(&table);
    assert_int_equal(table.count, 0);
    assert_cap_ok(memory_table_put(&table, &item)); /* usable again */
    memory_table_free(&table);
}

static void test_copy_is_apart(void **state)
{
    struct memory_table table = new_table(), copy;
    struct item item = {{1, 1}, 1};

    (void)state;
    assert_cap_ok(memory_table_copy(&table, &copy));
    assert_int_equal(copy.count, 0);
    memory_table_free(&copy);
    assert_cap_ok(memory_table_put(&table, &item));
    assert_cap_ok(memory_table_copy(&table, &copy));
    item.value = 2;
    assert_cap_ok(memory_table_put(&copy, &item));
    assert_int_equal(((const struct item *)memory_table_find(&table, item.key))->value, 1);
    item.key[0] = 2;
    assert_cap_ok(memory_table_put(&copy, &item));
    assert_int_equal(table.count, 1);
    assert_int_equal(copy.count, 2);
    memory_table_free(&table);
    memory_table_free(&copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_model),
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_copy_is_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
