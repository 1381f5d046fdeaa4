// In simulation: Ctrl-C ends a command that would not end by itself, such as one whose unit stays busy.
#pragma once

#include <signal.h>

#include <atomic>
#include <exception>

namespace ttfpga {

/// Whether SIGINT has come since a StopAtInterrupt was made; any thread of the process may be given it.
static std::atomic<bool> interrupted{false};
static struct sigaction before_interruptions;

class Interrupted : public std::exception {
 public:
  const char* what() const noexcept override { return "interrupted"; }
};

/// A function of its own, so that the loop has no more than the question in it.
[[noreturn]] __attribute__((cold, noinline)) inline void throw_interrupted() { throw Interrupted(); }

inline void stop_if_interrupted() {
  if (interrupted.load(std::memory_order_relaxed)) throw_interrupted();
}

/// The first SIGINT ends the command at the loop's next iteration, and goes on to the handler there was:
/// Python's, which raises once the command has returned. A second finds it within a trip that does not end,
/// where nobody asks: that ends the process.
inline void on_interrupt(int number, siginfo_t* info, void* context) {
  if (interrupted.exchange(true)) {
    signal(number, SIG_DFL);
    raise(number);
  } else if (before_interruptions.sa_flags & SA_SIGINFO) {
    before_interruptions.sa_sigaction(number, info, context);
  } else {
    before_interruptions.sa_handler(number);
  }
}

/// For as long as it lives, SIGINT ends the command, unless it is ignored or ends the process anyway. The
/// handler is the process's: there must be one at a time.
class StopAtInterrupt {
 public:
  StopAtInterrupt() {
    interrupted = false;
    sigaction(SIGINT, nullptr, &before_interruptions);
    if (before_interruptions.sa_handler == SIG_DFL || before_interruptions.sa_handler == SIG_IGN) return;
    struct sigaction ours = before_interruptions;
    ours.sa_flags |= SA_SIGINFO;
    ours.sa_sigaction = on_interrupt;
    sigaction(SIGINT, &ours, nullptr);
  }
  ~StopAtInterrupt() { sigaction(SIGINT, &before_interruptions, nullptr); }
  StopAtInterrupt(const StopAtInterrupt&) = delete;
  StopAtInterrupt& operator=(const StopAtInterrupt&) = delete;
};

}  // namespace ttfpga
