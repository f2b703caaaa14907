/*
 * Between librdkafka and its decompressors (the linker puts these before them: build.rs): a batch
 * asks for room before it is unpacked, by what it says that it unpacks to, and gives the room back
 * when it is freed. How much room there is, is decided in unpacking.rs.
 */
#include <malloc.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* librdkafka's receive.message.max.bytes: it refuses a zstd batch that unpacks to more, and has no
 * bound for gzip. */
static const size_t unpacked_bytes_max = 100000000;

/* librdkafka's RD_KAFKA_RESP_ERR__BAD_COMPRESSION. */
static const int bad_compression = -198;

void workflows_sink_partition_begins(void);
bool workflows_sink_may_unpack(size_t bytes);
void workflows_sink_unpacked(size_t taken, size_t bytes);
void workflows_sink_freed(size_t bytes);

unsigned long long ZSTD_decompressBound(const void *frame, size_t bytes);

/* What this thread has unpacked, until librdkafka makes a buffer of it. */
static _Thread_local const void *unpacked;

static void note(size_t taken, void *data) {
    unpacked = data;
    workflows_sink_unpacked(taken, data ? malloc_usable_size(data) : 0);
}

/* The last four bytes of a gzip member say its size; other formats of zlib do not. */
static size_t gzip_bytes(const unsigned char *data, size_t bytes) {
    if (bytes < 18 || data[0] != 0x1f || data[1] != 0x8b)
        return 0;
    const unsigned char *size = data + bytes - 4;
    return size[0] | (size_t)size[1] << 8 | (size_t)size[2] << 16 | (size_t)size[3] << 24;
}

void *__real_rd_gz_decompress(const void *data, int bytes, uint64_t *size);

void *__wrap_rd_gz_decompress(const void *data, int bytes, uint64_t *size) {
    size_t taken = gzip_bytes(data, (size_t)bytes);
    if (taken > unpacked_bytes_max || !workflows_sink_may_unpack(taken))
        return NULL;
    void *out = __real_rd_gz_decompress(data, bytes, size);
    note(taken, out);
    return out;
}

int __real_rd_kafka_zstd_decompress(void *broker, char *data, size_t bytes, void **out,
                                    size_t *size);

int __wrap_rd_kafka_zstd_decompress(void *broker, char *data, size_t bytes, void **out,
                                    size_t *size) {
    /* An error, too, is a large number: librdkafka then refuses the batch itself. */
    unsigned long long bound = ZSTD_decompressBound(data, bytes);
    size_t taken = bound < unpacked_bytes_max ? (size_t)bound : unpacked_bytes_max;
    if (!workflows_sink_may_unpack(taken))
        return bad_compression;
    int error = __real_rd_kafka_zstd_decompress(broker, data, bytes, out, size);
    note(taken, error ? NULL : *out);
    return error;
}

int __real_rd_kafka_lz4_decompress(void *broker, int proper, int64_t offset, char *data,
                                   size_t bytes, void **out, size_t *size);

/* LZ4 does not say; it unpacks to 255 times its size at the most. */
int __wrap_rd_kafka_lz4_decompress(void *broker, int proper, int64_t offset, char *data,
                                   size_t bytes, void **out, size_t *size) {
    if (!workflows_sink_may_unpack(0))
        return bad_compression;
    int error = __real_rd_kafka_lz4_decompress(broker, proper, offset, data, bytes, out, size);
    note(0, error ? NULL : *out);
    return error;
}

static void give_back(void *data) {
    workflows_sink_freed(malloc_usable_size(data));
    free(data);
}

void *__real_rd_kafka_buf_new_shadow(const void *data, size_t bytes, void (*free_it)(void *));

/* The records of a batch share this buffer, which is freed with the last of them. */
void *__wrap_rd_kafka_buf_new_shadow(const void *data, size_t bytes, void (*free_it)(void *)) {
    if (data && data == unpacked) {
        unpacked = NULL;
        free_it = give_back;
    }
    return __real_rd_kafka_buf_new_shadow(data, bytes, free_it);
}

int __real_rd_kafka_msgset_parse(void *response, void *request, void *partition, void *aborted,
                                 const void *version);

int __wrap_rd_kafka_msgset_parse(void *response, void *request, void *partition, void *aborted,
                                 const void *version) {
    workflows_sink_partition_begins();
    return __real_rd_kafka_msgset_parse(response, request, partition, aborted, version);
}
