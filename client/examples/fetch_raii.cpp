/* The library from C++: handles that release themselves, errors as exceptions: fetch_raii ADDRESS HASH */
#include <capstore/capstore.h>

#include <cstdio>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>

namespace {

template <auto release> struct releaser {
    template <typename T> void operator()(T *object) const { release(object); }
};

using store_ptr = std::unique_ptr<capstore, releaser<capstore_free>>;
using reader_ptr = std::unique_ptr<capstore_reader, releaser<capstore_reader_free>>;
using cap_ptr = std::unique_ptr<capstore_cap, releaser<capstore_cap_free>>;

void check(capstore_error error, const capstore *store = nullptr)
{
    if (error != CAPSTORE_OK) {
        std::string said = store != nullptr ? capstore_message(store) : capstore_error_text(error);
        throw std::runtime_error(std::string(capstore_error_name(error)) + ": " + said);
    }
}

store_ptr connect(const char *address)
{
    capstore *made = nullptr;
    check(capstore_new(nullptr, &made));
    store_ptr store(made);
    check(capstore_connect(store.get(), address), store.get());
    return store;
}

capstore_hash parse(const char *text)
{
    capstore_hash hash;
    check(capstore_hash_parse(text, &hash));
    return hash;
}

cap_ptr get(const store_ptr &store, const capstore_hash &hash)
{
    capstore_cap *cap = nullptr;
    check(capstore_get(store.get(), &hash, &cap), store.get());
    return cap_ptr(cap);
}

/* A reader is released before its store. */
reader_ptr open(const store_ptr &store, const capstore_hash &hash)
{
    capstore_reader *reader = nullptr;
    check(capstore_open(store.get(), &hash, nullptr, &reader), store.get());
    return reader_ptr(reader);
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 3) {
        std::fprintf(stderr, "usage: fetch_raii ADDRESS HASH\n");
        return 2;
    }
    try {
        store_ptr store = connect(argv[1]);
        capstore_hash hash = parse(argv[2]);
        cap_ptr cap = get(store, hash);
        std::printf("%s, %zu bytes\n", capstore_kind_name(capstore_cap_kind(cap.get())),
                    capstore_cap_body(cap.get()).len);
        /* Of a large cap only what is needed: a page, proven. */
        reader_ptr reader = open(store, hash);
        unsigned char page[CAPSTORE_PAGE_SIZE];
        size_t len = 0;
        check(capstore_read(reader.get(), 0, page, sizeof(page), &len), store.get());
        std::printf("read %zu of %llu\n", len,
                    static_cast<unsigned long long>(capstore_reader_size(reader.get())));
    } catch (const std::exception &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
