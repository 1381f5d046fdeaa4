// One simulated card: see board.hpp. A thread a card stands for the compute unit, which runs beside the host.
#include "board.hpp"

#include <ert.h>
#include <xclbin.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "faults.hpp"

namespace u50 {
namespace {

constexpr unsigned kMostBoards = 16;
constexpr uint32_t kStateMask = 0xF;

void complain(const std::string& what) { std::fprintf(stderr, "simulated U50: %s\n", what.c_str()); }

/// The packet lies in memory that the host polls, so its first word is written whole.
void write_state(const std::shared_ptr<uint8_t>& packet, uint32_t state) {
  auto* header = reinterpret_cast<uint32_t*>(packet.get());
  const uint32_t old = __atomic_load_n(header, __ATOMIC_ACQUIRE);
  __atomic_store_n(header, (old & ~kStateMask) | state, __ATOMIC_RELEASE);
}

}  // namespace

unsigned Board::count() {
  const char* value = std::getenv("TTFPGA_SIM_DEVICES");
  const long n = value && *value ? std::atol(value) : 1;
  return static_cast<unsigned>(std::clamp(n, 0l, static_cast<long>(kMostBoards)));
}

Board* Board::at(unsigned index) {
  // Never destroyed: a program may end while the runtime still holds the card, and a card outlives programs.
  static Board* const boards = new Board[kMostBoards];
  return index < count() ? &boards[index] : nullptr;
}

void Board::attach() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (attached_) return;
  attached_ = true;
  // Like the card, the unit never ends; between runs it sleeps.
  std::thread(&Board::work, this).detach();
}

bool Board::works() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return running_ != nullptr || (!queue_.empty() && queue_.front().hangs);
}

void Board::detach(Client* client) {
  std::unique_lock<std::mutex> lock(mutex_);
  drop_and_wait(lock, client);
  holders_.erase(
      std::remove_if(holders_.begin(), holders_.end(), [&](const Holder& h) { return h.client == client; }),
      holders_.end());
}

bool Board::loaded_is(const unsigned char* id) const { return program_ && std::memcmp(id, id_, sizeof id_) == 0; }

int Board::load(const axlf* top) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto* platform = reinterpret_cast<const char*>(top->m_header.m_platformVBNV);
  if (std::strncmp(platform, TTFPGA_PLATFORM, sizeof top->m_header.m_platformVBNV) != 0) {
    complain("refused an xclbin for " + std::string(platform, strnlen(platform, 64)) + ": this card's platform is " +
             TTFPGA_PLATFORM);
    return -EINVAL;
  }
  // As the driver does: what is loaded already is not loaded again, and the chip keeps what it holds.
  if (loaded_is(top->m_header.uuid)) return 0;
  // A client that lets go amid a run is no holder any more, and its run still needs the program and the memory.
  if (!holders_.empty() || running_) {
    complain("refused another xclbin: a compute unit is in use");
    return -EBUSY;
  }
  std::string why;
  std::unique_ptr<Program> program = Program::load(top, why);
  if (!program) {
    complain("refused an xclbin: " + why);
    return -EINVAL;
  }
  program_ = std::move(program);
  std::memcpy(id_, top->m_header.uuid, sizeof id_);
  memory_.shape(program_->banks());
  return 0;
}

int Board::open_context(Client* client, const unsigned char* id, bool shared) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!loaded_is(id)) return -EINVAL;
  if (suffers(Fault::kBusy)) return -EBUSY;
  for (const Holder& holder : holders_) {
    // One context a client: a second of its own is an error too.
    if (!shared || !holder.shared || holder.client == client) return -EBUSY;
  }
  holders_.push_back({client, shared});
  return 0;
}

int Board::close_context(Client* client) {
  std::unique_lock<std::mutex> lock(mutex_);
  const auto of_client = [&](const Holder& holder) { return holder.client == client; };
  const auto found = std::find_if(holders_.begin(), holders_.end(), of_client);
  if (found == holders_.end()) return -EINVAL;
  holders_.erase(found);
  // The driver resets a unit that its last user left hung, and gives up what waits for it.
  drop_and_wait(lock, client);
  return 0;
}

void Board::drop_and_wait(std::unique_lock<std::mutex>& lock, const Client* client) {
  queue_.erase(std::remove_if(queue_.begin(), queue_.end(), [&](const Job& job) { return job.owner == client; }),
               queue_.end());
  changed_.notify_all();
  changed_.wait(lock, [&] { return running_ != client; });
}

int Board::submit(Client* client, const std::shared_ptr<uint8_t>& packet) {
  const auto* command = reinterpret_cast<const ert_start_kernel_cmd*>(packet.get());
  if (command->opcode != ERT_START_CU || command->count < 1u + command->extra_cu_masks) return -EINVAL;
  const std::lock_guard<std::mutex> lock(mutex_);
  const bool holds =
      std::any_of(holders_.begin(), holders_.end(), [&](const Holder& h) { return h.client == client; });
  if (!holds || (command->cu_mask & 1u) == 0) return -EINVAL;
  const uint32_t* registers = command->data + command->extra_cu_masks;
  const size_t words = command->count - 1u - command->extra_cu_masks;
  Job job{packet, std::vector<uint32_t>(registers, registers + words), client, suffers(Fault::kHang),
          suffers(Fault::kError)};
  write_state(packet, ERT_CMD_STATE_QUEUED);
  queue_.push_back(std::move(job));
  changed_.notify_all();
  return 0;
}

void Board::finish(const Job& job, uint32_t state) {
  write_state(job.packet, state);
  job.owner->notify();
}

void Board::work() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return !queue_.empty(); });
    if (queue_.front().hangs) {
      // It stays at the head and stops all behind it, until its owner lets go of the unit and it is dropped.
      write_state(queue_.front().packet, ERT_CMD_STATE_RUNNING);
      changed_.wait(lock, [&] { return queue_.empty() || !queue_.front().hangs; });
      continue;
    }
    const Job job = std::move(queue_.front());
    queue_.pop_front();
    running_ = job.owner;
    // Not SUBMITTED: its number is above COMPLETED's, and for such a state XRT's wait comes back.
    write_state(job.packet, ERT_CMD_STATE_RUNNING);
    lock.unlock();
    const std::string why = job.fails ? "a planted error" : program_->run(job.registers, memory_);
    if (!why.empty()) complain("a run ends in an error: " + why);
    finish(job, why.empty() ? ERT_CMD_STATE_COMPLETED : ERT_CMD_STATE_ERROR);
    lock.lock();
    running_ = nullptr;
    changed_.notify_all();
  }
}

void Client::notify() {
  const std::lock_guard<std::mutex> lock(mutex_);
  ++endings_;
  ended_.notify_all();
}

int Client::wait(int milliseconds) {
  std::unique_lock<std::mutex> lock(mutex_);
  const auto ended = [&] { return endings_ != seen_; };
  if (milliseconds < 0) {
    ended_.wait(lock, ended);
  } else if (!ended_.wait_for(lock, std::chrono::milliseconds(milliseconds), ended)) {
    return 0;
  }
  seen_ = endings_;
  return 1;
}

}  // namespace u50
