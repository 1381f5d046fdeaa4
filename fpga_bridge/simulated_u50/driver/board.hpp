#pragma once
// One simulated card: its memory, the program on it, who holds its compute unit, and the queue of runs.

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "memory.hpp"
#include "program.hpp"

namespace u50 {

// The name of the card's shell, and of the platform that its programs are built for, the clock and the memory: the
// build hands in those of fpga_bridge/kernel/interface.py.
#if !defined(TTFPGA_SHELL) || !defined(TTFPGA_PLATFORM) || !defined(TTFPGA_CLOCK_MHZ) || \
    !defined(TTFPGA_HBM_BANKS) || !defined(TTFPGA_HBM_BANK_BYTES)
#error "TTFPGA_SHELL or another macro of the card is missing: build with fpga_bridge.simulated_u50.build"
#endif

class Client;

/// A run in the queue: the host's command packet, whose state the board writes, and the registers it set.
struct Job {
  std::shared_ptr<uint8_t> packet;  // held: the host may free it while the run waits
  std::vector<uint32_t> registers;
  Client* owner;
  bool hangs;
  bool fails;
};

/// State that outlives the programs that open the card: it stays loaded between them.
class Board {
 public:
  /// Null if there is no card of that number ($TTFPGA_SIM_DEVICES of them, by default 1).
  static Board* at(unsigned index);
  static unsigned count();

  DeviceMemory& memory() { return memory_; }
  /// Whether a run is on the compute unit now.
  bool works();

  void attach();
  void detach(Client* client);

  /// 0 or a negative errno, as the driver's own.
  int load(const axlf* top);
  int open_context(Client* client, const unsigned char* id, bool shared);
  int close_context(Client* client);
  int submit(Client* client, const std::shared_ptr<uint8_t>& packet);

 private:
  void work();
  /// Drops the client's runs that wait, and waits for the one that runs, as its buffers are the client's.
  void drop_and_wait(std::unique_lock<std::mutex>& lock, const Client* client);
  void finish(const Job& job, uint32_t state);
  bool loaded_is(const unsigned char* id) const;

  struct Holder {
    Client* client;
    bool shared;
  };

  DeviceMemory memory_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::unique_ptr<Program> program_;
  unsigned char id_[16] = {};
  std::vector<Holder> holders_;
  std::deque<Job> queue_;
  Client* running_ = nullptr;
  bool attached_ = false;
};

/// One opening of a card: what it waits for.
class Client {
 public:
  explicit Client(Board* board) : board(board) {}

  /// A run of this client ended.
  void notify();
  /// 1 if a run ended since the last call, 0 after the timeout (negative: none).
  int wait(int milliseconds);

  Board* const board;

 private:
  std::mutex mutex_;
  std::condition_variable ended_;
  uint64_t endings_ = 0;
  uint64_t seen_ = 0;
};

}  // namespace u50
