// Many runs through XRT's C++ interface on the simulated card, for memory checkers: xrt_loop XCLBIN RUNS [LEAK].
// Exit status 1: a run did not end as it should. Its output is by how many KiB the process grew: in resident memory
// after the first tenth of the runs, in address space during the last. LEAK bytes are lost by each run on purpose.

#include <xrt/xrt_bo.h>
#include <xrt/xrt_device.h>
#include <xrt/xrt_kernel.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>

namespace {

// Whole pages: of another size XRT makes a call that AddressSanitizer refuses.
constexpr size_t kOther = 3 * 4096;

struct Pages {
  long all, resident;
};

Pages pages() {
  Pages found{};
  std::ifstream("/proc/self/statm") >> found.all >> found.resident;
  return found;
}

}  // namespace

int main(int n, char** argv) {
  const int runs = std::atoi(argv[2]);
  const int leak = n > 3 ? std::atoi(argv[3]) : 0;
  int wrong = 0, done = 0;
  long warm = 0, grown = 0;
  // The card is opened ten times: what closing leaves behind shows from the second on.
  for (int round = 0; round < 10; ++round) {
    if (round == 1) warm = pages().resident;
    xrt::device device(0u);
    device.get_info<xrt::info::device::electrical>();
    const auto id = device.load_xclbin(std::string(argv[1]));
    xrt::kernel kernel(device, id, "ttfpga_kernel", xrt::kernel::cu_access_mode::exclusive);
    xrt::bo results(device, 4096, xrt::bo::flags::normal, kernel.group_id(4));
    // After the opening: XRT keeps a thread, with its stack, for each opening until the program ends.
    const long last = pages().all;
    for (; done < runs * (round + 1) / 10; ++done) {
      xrt::run run(kernel);
      for (int argument : {1, 2, 3, 5, 6}) run.set_arg(argument, 0);
      run.set_arg(0, 77);  // unknown to the kernel, which answers with status 2
      run.set_arg(4, results);
      run.start();
      wrong += run.wait() != ERT_CMD_STATE_COMPLETED;
      results.sync(XCL_BO_SYNC_BO_FROM_DEVICE);
      wrong += results.map<float*>()[0] != 2.0f;
      xrt::bo other(device, kOther, xrt::bo::flags::normal, kernel.group_id(3));
      std::memset(other.map<char*>(), 1, kOther);
      other.sync(XCL_BO_SYNC_BO_TO_DEVICE);
      if (leak) std::memset(std::malloc(leak), 1, leak);
    }
    grown = pages().all - last;
  }
  std::printf("%ld %ld\n", 4 * (pages().resident - warm), 4 * grown);
  return wrong != 0;
}
