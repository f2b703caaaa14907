/*
 * What librdkafka learns of a zstd frame that does not name its size, as frames of streaming
 * producers do not: how large it can be at most, by its blocks. librdkafka would guess twice the
 * frame's own size and, for as long as that is too little, decompress it again from the start into
 * three times as much. The linker puts this before zstd's own function (build.rs). Not needed once
 * librdkafka decompresses in a stream (github.com/confluentinc/librdkafka/issues/5595).
 *
 * It only says where librdkafka begins to try: too little costs another try, too much is memory
 * that is never touched.
 */
#include <stddef.h>

static const unsigned long long unknown = -1ULL;
/* Of many small blocks it can be far less than the most: beyond this, times the frame's size,
 * librdkafka may guess. */
static const unsigned long long expansion_max = 32;
/* librdkafka's receive.message.max.bytes: into more than that it does not try at all. */
static const unsigned long long tried_bytes_max = 100000000;

unsigned long long __real_ZSTD_getFrameContentSize(const void *frame, size_t bytes);
unsigned long long ZSTD_decompressBound(const void *frame, size_t bytes);

unsigned long long __wrap_ZSTD_getFrameContentSize(const void *frame, size_t bytes) {
    unsigned long long size = __real_ZSTD_getFrameContentSize(frame, bytes);
    if (size != unknown)
        return size;
    unsigned long long bound = ZSTD_decompressBound(frame, bytes);
    if (bound > expansion_max * bytes || bound > tried_bytes_max)
        return unknown;
    return bound;
}
