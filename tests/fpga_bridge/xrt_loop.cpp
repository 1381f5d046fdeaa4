// Many runs through XRT's C++ interface on the simulated card, for a memory checker: xrt_loop XCLBIN RUNS.
// Its exit status says whether each run ended as it should.

#include <xrt/xrt_bo.h>
#include <xrt/xrt_device.h>
#include <xrt/xrt_kernel.h>

#include <cstdlib>
#include <string>

int main(int, char** argv) {
  const int runs = std::atoi(argv[2]);
  int wrong = 0;
  // Opened twice: what closing leaves behind would show in the second round.
  for (int round = 0; round < 2; ++round) {
    xrt::device device(0u);
    const auto id = device.load_xclbin(std::string(argv[1]));
    xrt::kernel kernel(device, id, "ttfpga_kernel", xrt::kernel::cu_access_mode::exclusive);
    xrt::bo results(device, 4096, xrt::bo::flags::normal, kernel.group_id(4));
    for (int i = 0; i < runs; ++i) {
      xrt::run run(kernel);
      for (int argument : {1, 2, 3, 5, 6}) run.set_arg(argument, 0);
      run.set_arg(0, 77);  // unknown to the kernel, which answers with status 2
      run.set_arg(4, results);
      run.start();
      // XRT's wait may come back before the end, woken by an older run's: it is asked again.
      auto state = run.wait();
      while (state == ERT_CMD_STATE_QUEUED || state == ERT_CMD_STATE_SUBMITTED) state = run.wait();
      wrong += state != ERT_CMD_STATE_COMPLETED;
      results.sync(XCL_BO_SYNC_BO_FROM_DEVICE);
      wrong += results.map<float*>()[0] != 2.0f;
      xrt::bo other(device, 10000, xrt::bo::flags::normal, kernel.group_id(3));
      other.sync(XCL_BO_SYNC_BO_TO_DEVICE);
    }
  }
  return wrong != 0;
}
