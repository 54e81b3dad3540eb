/* The bare limit: one thread writes the data of a file into TLS 1.3 with mutual authentication,
 * the other end reads it and throws it away. No frames, no checksums, no disk at the far end.
 *
 *   mtls_pump FOLDER FILE      FOLDER holds ca-cert.pem, {server,client}-{cert,key}.pem
 *
 * Prints "BYTES SECONDS": from the first byte read to the peer's word that it has read the last.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PIECE = 1 << 20 };

static void fail(const char *what) {
    perror(what);
    ERR_print_errors_fp(stderr);
    exit(1);
}

static SSL_CTX *context(const char *folder, const char *name, const SSL_METHOD *method) {
    char path[3][4096];
    snprintf(path[0], sizeof path[0], "%s/ca-cert.pem", folder);
    snprintf(path[1], sizeof path[1], "%s/%s-cert.pem", folder, name);
    snprintf(path[2], sizeof path[2], "%s/%s-key.pem", folder, name);
    SSL_CTX *made = SSL_CTX_new(method);
    if (made == NULL || SSL_CTX_load_verify_file(made, path[0]) != 1 ||
        SSL_CTX_use_certificate_chain_file(made, path[1]) != 1 ||
        SSL_CTX_use_PrivateKey_file(made, path[2], SSL_FILETYPE_PEM) != 1)
        fail("the TLS material");
    SSL_CTX_set_verify(made, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_min_proto_version(made, TLS1_3_VERSION);
    return made;
}

struct drain {
    SSL_CTX *tls;
    int listening;
};

static void *take(void *given) {
    struct drain *drain = given;
    int taken = accept(drain->listening, NULL, NULL);
    SSL *tls = SSL_new(drain->tls);
    if (taken < 0 || tls == NULL || SSL_set_fd(tls, taken) != 1 || SSL_accept(tls) != 1)
        fail("accept");
    char *piece = malloc(PIECE);
    long long total = 0;
    for (;;) {
        int count = SSL_read(tls, piece, PIECE);
        if (count > 0) {
            total += count;
            continue;
        }
        if (SSL_get_error(tls, count) != SSL_ERROR_ZERO_RETURN)
            fail("read");
        break;
    }
    if (SSL_write(tls, &total, sizeof total) != sizeof total)
        fail("answer");
    SSL_shutdown(tls);
    free(piece);
    return NULL;
}

static void pump(SSL *tls, int file, long long *total) {
    char *piece = malloc(PIECE);
    off_t end = lseek(file, 0, SEEK_END), place = 0;
    while (place < end) {
        off_t start = lseek(file, place, SEEK_DATA);
        if (start < 0 && errno == ENXIO)
            break;
        off_t stop = lseek(file, start, SEEK_HOLE);
        if (start < 0 || stop < 0)
            fail("lseek");
        for (place = start; place < stop;) {
            size_t wanted = stop - place < PIECE ? (size_t)(stop - place) : PIECE;
            ssize_t count = pread(file, piece, wanted, place);
            if (count <= 0 || SSL_write(tls, piece, (int)count) != (int)count)
                fail("send");
            place += count;
            *total += count;
        }
    }
    free(piece);
}

int main(int count, char **given) {
    if (count != 3) {
        fprintf(stderr, "usage: %s FOLDER FILE\n", given[0]);
        return 2;
    }
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    struct drain drain = {context(given[1], "server", TLS_server_method()),
                          socket(AF_INET, SOCK_STREAM, 0)};
    if (bind(drain.listening, (struct sockaddr *)&address, length) != 0 ||
        listen(drain.listening, 1) != 0 ||
        getsockname(drain.listening, (struct sockaddr *)&address, &length) != 0)
        fail("listen");
    pthread_t reader;
    if (pthread_create(&reader, NULL, take, &drain) != 0)
        fail("thread");
    int file = open(given[2], O_RDONLY), connection = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    if (file < 0 || connect(connection, (struct sockaddr *)&address, length) != 0)
        fail("connect");
    setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    SSL *tls = SSL_new(context(given[1], "client", TLS_client_method()));
    if (SSL_set_fd(tls, connection) != 1 || SSL_connect(tls) != 1)
        fail("TLS");
    struct timespec began, ended;
    clock_gettime(CLOCK_MONOTONIC, &began);
    long long sent = 0, taken = 0;
    pump(tls, file, &sent);
    SSL_shutdown(tls);
    if (SSL_read(tls, &taken, sizeof taken) != sizeof taken || taken != sent)
        fail("the far end did not take everything");
    clock_gettime(CLOCK_MONOTONIC, &ended);
    pthread_join(reader, NULL);
    printf("%lld %.6f\n", sent,
           (double)(ended.tv_sec - began.tv_sec) + (double)(ended.tv_nsec - began.tv_nsec) / 1e9);
    return 0;
}
