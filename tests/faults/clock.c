/* libfaketime does not know the waits of C11 threads, which librdkafka uses: with a clock that is
 * far ahead they would last as long as it is. Those of POSIX threads it knows; in glibc they are
 * the same. */
#include <errno.h>
#include <pthread.h>
#include <threads.h>

int cnd_timedwait(cnd_t *condition, mtx_t *mutex, const struct timespec *until)
{
        int result = pthread_cond_timedwait((pthread_cond_t *)condition, (pthread_mutex_t *)mutex,
                                            until);

        return result == 0 ? thrd_success : result == ETIMEDOUT ? thrd_timedout : thrd_error;
}
