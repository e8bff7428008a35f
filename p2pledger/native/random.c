/* Random bytes of the operating system: for what must be unpredictable and decides nothing, the coefficients of batch
 * verification and the places of rows in hash tables. */

#if defined(__linux__)
#include <errno.h>
#include <sys/random.h>
#else
#include <stdio.h>
#include <stdlib.h>
#endif

#include "internal.h"

int p2l_random(uint8_t *bytes, size_t size)
{
#if defined(__linux__)
    while (size > 0) {
        ssize_t got = getrandom(bytes, size, 0);
        if (got < 0 && errno != EINTR)
            return 0;
        if (got > 0) {
            bytes += got;
            size -= (size_t)got;
        }
    }
    return 1;
#elif defined(__APPLE__) || defined(__FreeBSD__) || defined(__OpenBSD__) || defined(__NetBSD__)
    arc4random_buf(bytes, size);
    return 1;
#else
    FILE *source = fopen("/dev/urandom", "rb");
    size_t got = source != NULL ? fread(bytes, 1, size, source) : 0;
    if (source != NULL)
        fclose(source);
    return got == size;
#endif
}
