// epoll, eventfd and a few socket calls that the Glibc module does not export to Swift.
#ifndef FANFARE_CEPOLL_H
#define FANFARE_CEPOLL_H

#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

static inline int fanfare_epoll_create(void) { return epoll_create1(EPOLL_CLOEXEC); }

static inline int fanfare_epoll_ctl(int epoll, int operation, int descriptor, uint32_t events, uint64_t token) {
    struct epoll_event event = {.events = events, .data = {.u64 = token}};
    return epoll_ctl(epoll, operation, descriptor, &event);
}

static inline int fanfare_eventfd_create(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }

// Declared here because the C library hides it unless _GNU_SOURCE came first.
extern int accept4(int descriptor, struct sockaddr *address, socklen_t *length, int flags);

static inline int fanfare_accept(int listener) { return accept4(listener, 0, 0, SOCK_CLOEXEC | SOCK_NONBLOCK); }

// Constants that importers see with different types, depending on which module they come from.
static const int fanfare_send_flags = MSG_NOSIGNAL;
static const int fanfare_peek_flags = MSG_PEEK;
static const int fanfare_socket_type = SOCK_STREAM;
static const int fanfare_socket_flags = SOCK_NONBLOCK | SOCK_CLOEXEC;

// The calling thread's name, at most 15 characters, as `top -H` and a debugger show it.
static inline void fanfare_thread_set_name(const char *name) { prctl(PR_SET_NAME, name, 0, 0, 0); }

#endif
