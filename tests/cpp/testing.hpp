// What the test programs share: nodes on loopback, a check that throws, and running a test by its name. A program without arguments
// lists its tests; with <test> <directory> it runs one.
#ifndef PEERBUS_TESTS_TESTING_HPP
#define PEERBUS_TESTS_TESTING_HPP

#include "peerbus.hpp"

#include <cstring>
#include <iostream>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) throw std::logic_error(std::string(__FILE__) + ":" + std::to_string(__LINE__) + ": " #condition); \
    } while (0)

#define TEST(name) {#name, name}

struct Test {
    const char *name;
    void (*run)();
};

static std::string directory;

static const peerbus::Library &library() {
    static const peerbus::Library initialized = peerbus::Library::initialize();
    return initialized;
}

static std::string config(const std::string &name, const std::string &more = "") {
    return R"({"identity_dir":")" + directory + "/" + name +
           R"(","listen_ips":["127.0.0.1"],"nat":{"port_mapping":false,"hole_punching":false,"autonat":false},)"
           R"("dht":{"enabled":false})" + more + "}";
}

// The event that ends the operation in progress.
static std::string operation_end(peerbus::Node &node) {
    for (;;) {
        const auto events = node.events(std::chrono::seconds(10), 1);
        CHECK(!events.empty());
        if (events.find("\"type\":\"operation\"") != std::string::npos) return events;
    }
}

template <class Tests> static int run_tests(const Tests &tests, int count, char **arguments) {
    if (count == 3) directory = arguments[2];
    for (const Test &test : tests) {
        if (count < 3) {
            std::cout << test.name << "\n";
        } else if (std::strcmp(test.name, arguments[1]) == 0) {
            try {
                return test.run(), 0;
            } catch (const std::exception &failure) {
                std::cerr << failure.what() << "\n";
                return 1;
            }
        }
    }
    return count < 3 ? 0 : 2;
}

#endif
