// Loopback TCP: one connection between two processes and one inside of a process.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void check(int good, const char *what) {
    if (!good) {
        perror(what);
        exit(1);
    }
}

static int connect_to(struct sockaddr_in *address) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    check(fd >= 0, "socket");
    check(connect(fd, (struct sockaddr *)address, sizeof *address) == 0, "connect");
    return fd;
}

static void receive(int fd, char *buffer, size_t length) {
    for (size_t got = 0; got < length;) {
        ssize_t count = read(fd, buffer + got, length - got);
        check(count > 0, "read");
        got += count;
    }
}

int main(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    int listening = socket(AF_INET, SOCK_STREAM, 0);
    check(bind(listening, (struct sockaddr *)&address, sizeof address) == 0, "bind");
    check(listen(listening, 4) == 0, "listen");
    check(getsockname(listening, (struct sockaddr *)&address, &length) == 0, "getsockname");

    // The client is another process.
    char buffer[64];
    pid_t child = fork();
    if (child == 0) {
        close(listening);
        int fd = connect_to(&address);
        check(write(fd, "question", 8) == 8, "write");
        receive(fd, buffer, 6);
        _exit(memcmp(buffer, "answer", 6) != 0);
    }
    int served = accept(listening, NULL, NULL);
    check(served >= 0, "accept");
    receive(served, buffer, 8);
    check(write(served, "answer", 6) == 6, "write");
    int status;
    check(waitpid(child, &status, 0) == child && status == 0, "waitpid");
    close(served);

    // Both ends here: connected before it is accepted.
    int client = connect_to(&address);
    struct sockaddr_in peer;
    length = sizeof peer;
    int server = accept4(listening, (struct sockaddr *)&peer, &length, SOCK_CLOEXEC);
    check(server >= 0, "accept4");
    check(write(client, "abcd", 4) == 4, "write");
    receive(server, buffer, 4);

    printf("%.4s\n", buffer);
    return 0;
}
