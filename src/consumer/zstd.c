/*
 * What librdkafka is told of a zstd frame that does not name its size, as frames of streaming producers do not: how large
 * it can be at most, by its blocks. librdkafka would guess twice the frame's own size and, for as long as that is too
 * little, decompress it again from the start into three times as much. The linker puts this before ZSTD's own function
 * (build.rs). Not needed once librdkafka decompresses in a stream (github.com/confluentinc/librdkafka/issues/5595).
 *
 * It is only where librdkafka begins to try: a wrong answer costs another try, or memory that is never touched.
 */
#include <stddef.h>

static const unsigned long long unknown = -1ULL;
/* Untouched memory is bounded too: beyond this librdkafka may guess. */
static const unsigned long long expansion_max = 32;

unsigned long long __real_ZSTD_getFrameContentSize(const void *frame, size_t bytes);
unsigned long long ZSTD_decompressBound(const void *frame, size_t bytes);

unsigned long long __wrap_ZSTD_getFrameContentSize(const void *frame, size_t bytes) {
    unsigned long long size = __real_ZSTD_getFrameContentSize(frame, bytes);
    if (size != unknown)
        return size;
    unsigned long long bound = ZSTD_decompressBound(frame, bytes);
    return bound <= expansion_max * bytes ? bound : unknown;
}
