// pyxrt for machines without the vendor's: the same names and argument rules over the public C++ API of XRT.
// Where the vendor's module drops an argument that it can't pass (a float), this one raises a TypeError.

#include <pybind11/pybind11.h>

#include <experimental/xrt_system.h>
#include <experimental/xrt_xclbin.h>
#include <xrt/xrt_bo.h>
#include <xrt/xrt_device.h>
#include <xrt/xrt_kernel.h>

#include <dlfcn.h>

#include <memory>
#include <stdexcept>
#include <string>

namespace py = pybind11;

namespace {

// An object of the runtime must not outlive the device it belongs to, and the runtime does not see to that.
using KeepsSecond = py::keep_alive<1, 2>;

/// What `bo.map` shows: it keeps the buffer, and so the device, for as long as anyone looks at it.
struct Mapping {
  py::object buffer;
  void* bytes;
  size_t size;
};

/// The value of a 32-bit scalar argument.
int scalar(py::handle item) {
  // A whole number of 32 bits, signed: all that the vendor's module takes. No float is one.
  py::detail::make_caster<int> caster;
  if (PyFloat_Check(item.ptr()) || !caster.load(item, true))
    throw py::type_error("a kernel takes buffers and 32-bit whole numbers, found " +
                         py::repr(item).cast<std::string>());
  return py::detail::cast_op<int>(caster);
}

void set_argument(xrt::run& run, int index, py::handle item) {
  if (py::isinstance<xrt::bo>(item)) {
    run.set_arg(index, item.cast<xrt::bo&>());
  } else {
    run.set_arg(index, scalar(item));
  }
}

/// Cards that can be opened. The runtime's own count knows none behind the device factory that it has on Debian
/// for drivers of others, and the driver's counts them.
unsigned count_devices() {
  const unsigned known = xrt::system::enumerate_devices();
  const auto probe = reinterpret_cast<unsigned (*)()>(dlsym(RTLD_DEFAULT, "xclProbe"));
  return known == 0 && probe ? probe() : known;
}

std::string yes_or_no(bool value) { return std::to_string(value); }

/// All values as text, as the vendor's module has them.
std::string information(const xrt::device& device, xrt::info::device key) {
  using Key = xrt::info::device;
  switch (key) {
    case Key::bdf: return device.get_info<Key::bdf>();
    case Key::interface_uuid: return device.get_info<Key::interface_uuid>().to_string();
    case Key::kdma: return std::to_string(device.get_info<Key::kdma>());
    case Key::max_clock_frequency_mhz: return std::to_string(device.get_info<Key::max_clock_frequency_mhz>());
    case Key::m2m: return yes_or_no(device.get_info<Key::m2m>());
    case Key::name: return device.get_info<Key::name>();
    case Key::nodma: return yes_or_no(device.get_info<Key::nodma>());
    case Key::offline: return yes_or_no(device.get_info<Key::offline>());
    case Key::electrical: return device.get_info<Key::electrical>();
    case Key::thermal: return device.get_info<Key::thermal>();
    case Key::mechanical: return device.get_info<Key::mechanical>();
    case Key::memory: return device.get_info<Key::memory>();
    case Key::platform: return device.get_info<Key::platform>();
    case Key::pcie_info: return device.get_info<Key::pcie_info>();
    case Key::host: return device.get_info<Key::host>();
    case Key::dynamic_regions: return device.get_info<Key::dynamic_regions>();
    case Key::vmr: return device.get_info<Key::vmr>();
    default: throw std::invalid_argument("this kind of information is not offered");
  }
}

void bind_enums(py::module_& m) {
  m.attr("XCL_BO_FLAGS_NONE") = py::int_(XCL_BO_FLAGS_NONE);
  py::enum_<xclBOSyncDirection>(m, "xclBOSyncDirection")
      .value("XCL_BO_SYNC_BO_TO_DEVICE", XCL_BO_SYNC_BO_TO_DEVICE)
      .value("XCL_BO_SYNC_BO_FROM_DEVICE", XCL_BO_SYNC_BO_FROM_DEVICE);
  py::enum_<ert_cmd_state>(m, "ert_cmd_state")
      .value("ERT_CMD_STATE_NEW", ERT_CMD_STATE_NEW)
      .value("ERT_CMD_STATE_QUEUED", ERT_CMD_STATE_QUEUED)
      .value("ERT_CMD_STATE_COMPLETED", ERT_CMD_STATE_COMPLETED)
      .value("ERT_CMD_STATE_ERROR", ERT_CMD_STATE_ERROR)
      .value("ERT_CMD_STATE_ABORT", ERT_CMD_STATE_ABORT)
      .value("ERT_CMD_STATE_SUBMITTED", ERT_CMD_STATE_SUBMITTED)
      .value("ERT_CMD_STATE_TIMEOUT", ERT_CMD_STATE_TIMEOUT)
      .value("ERT_CMD_STATE_NORESPONSE", ERT_CMD_STATE_NORESPONSE)
      .value("ERT_CMD_STATE_SKERROR", ERT_CMD_STATE_SKERROR)
      .value("ERT_CMD_STATE_SKCRASHED", ERT_CMD_STATE_SKCRASHED);
  using Key = xrt::info::device;
  py::enum_<Key>(m, "xrt_info_device")
      .value("bdf", Key::bdf)
      .value("interface_uuid", Key::interface_uuid)
      .value("kdma", Key::kdma)
      .value("max_clock_frequency_mhz", Key::max_clock_frequency_mhz)
      .value("m2m", Key::m2m)
      .value("name", Key::name)
      .value("nodma", Key::nodma)
      .value("offline", Key::offline)
      .value("electrical", Key::electrical)
      .value("thermal", Key::thermal)
      .value("mechanical", Key::mechanical)
      .value("memory", Key::memory)
      .value("platform", Key::platform)
      .value("pcie_info", Key::pcie_info)
      .value("host", Key::host)
      .value("dynamic_regions", Key::dynamic_regions)
      .value("vmr", Key::vmr);
}

void bind_xclbin(py::module_& m) {
  py::class_<xrt::uuid>(m, "uuid")
      .def(py::init<const char*>())
      .def("to_string", &xrt::uuid::to_string);
  py::class_<xrt::xclbin>(m, "xclbin")
      .def(py::init<const std::string&>())
      .def("get_xsa_name", &xrt::xclbin::get_xsa_name)
      .def("get_uuid", &xrt::xclbin::get_uuid);
}

void bind_device(py::module_& m) {
  using Unlocked = py::call_guard<py::gil_scoped_release>;
  py::class_<xrt::device>(m, "device")
      .def(py::init<>())
      .def(py::init<unsigned>())
      .def(py::init<const std::string&>())
      .def("load_xclbin", [](xrt::device& d, const std::string& path) { return d.load_xclbin(path); }, Unlocked())
      .def("load_xclbin", [](xrt::device& d, const xrt::xclbin& x) { return d.load_xclbin(x); }, Unlocked())
      .def("get_xclbin_uuid", &xrt::device::get_xclbin_uuid)
      .def("get_info", &information);
}

void bind_buffer(py::module_& m) {
  py::class_<Mapping>(m, "_mapping", py::buffer_protocol()).def_buffer([](Mapping& mapping) {
    return py::buffer_info(static_cast<uint8_t*>(mapping.bytes), static_cast<py::ssize_t>(mapping.size));
  });
  py::class_<xrt::bo> bo(m, "bo");
  py::enum_<xrt::bo::flags>(bo, "flags")
      .value("normal", xrt::bo::flags::normal)
      .value("cacheable", xrt::bo::flags::cacheable)
      .value("device_only", xrt::bo::flags::device_only)
      .value("host_only", xrt::bo::flags::host_only)
      .value("p2p", xrt::bo::flags::p2p)
      .value("svm", xrt::bo::flags::svm)
      .export_values();
  bo.def(py::init([](const xrt::device& d, size_t size, xrt::bo::flags flags, xrt::memory_group group) {
           return xrt::bo(d, size, flags, group);
         }),
         KeepsSecond())
      .def(py::init([](const xrt::bo& parent, size_t size, size_t offset) { return xrt::bo(parent, size, offset); }),
           KeepsSecond())
      .def("write",
           [](xrt::bo& b, const py::buffer& data, size_t seek) {
             const py::buffer_info info = data.request();
             b.write(info.ptr, static_cast<size_t>(info.itemsize * info.size), seek);
           })
      .def("read",
           [](xrt::bo& b, size_t size, size_t skip) {
             // The vendor's gives an array of bytes: numpy alone knows how to make one.
             std::string bytes(size, '\0');
             b.read(bytes.data(), size, skip);
             return py::module_::import("numpy").attr("frombuffer")(py::bytearray(bytes), "int8");
           })
      .def("sync", [](xrt::bo& b, xclBOSyncDirection d, size_t size, size_t offset) { b.sync(d, size, offset); })
      .def("sync", [](xrt::bo& b, xclBOSyncDirection d) { b.sync(d); })
      .def("map", [](const py::object& self) {
        auto& b = self.cast<xrt::bo&>();
        return py::memoryview(py::cast(Mapping{self, b.map(), b.size()}));
      })
      .def("size", &xrt::bo::size)
      .def("address", &xrt::bo::address);
}

void bind_kernel(py::module_& m) {
  // A wait lets other threads of Python run.
  using Unlocked = py::call_guard<py::gil_scoped_release>;
  py::class_<xrt::kernel> kernel(m, "kernel");
  py::class_<xrt::run>(m, "run")
      .def(py::init<>())
      .def(py::init<const xrt::kernel&>(), KeepsSecond())
      .def("start", [](xrt::run& r) { r.start(); }, Unlocked())
      .def("set_arg", &set_argument)
      .def("wait", [](xrt::run& r) { return r.wait(0); }, Unlocked())
      .def("wait", [](xrt::run& r, unsigned milliseconds) { return r.wait(milliseconds); }, Unlocked())
      .def("state", &xrt::run::state);
  using Mode = xrt::kernel::cu_access_mode;
  py::enum_<Mode>(kernel, "cu_access_mode")
      .value("exclusive", Mode::exclusive)
      .value("shared", Mode::shared)
      .value("none", Mode::none)
      .export_values();
  kernel
      .def(py::init([](const xrt::device& d, const xrt::uuid& id, const std::string& name, Mode mode) {
             return xrt::kernel(d, id, name, mode);
           }),
           KeepsSecond())
      .def(py::init([](const xrt::device& d, const xrt::uuid& id, const std::string& name) {
             return xrt::kernel(d, id, name);
           }),
           KeepsSecond())
      .def("group_id", &xrt::kernel::group_id)
      .def("__call__", [](xrt::kernel& k, const py::args& arguments) {
        xrt::run run(k);
        int index = 0;
        for (const auto& item : arguments) set_argument(run, index++, item);
        run.start();
        return run;
      }, py::keep_alive<0, 1>());
}

}  // namespace

PYBIND11_MODULE(pyxrt, m) {
  m.doc() = "pyxrt by ttfpga: the vendor's names over XRT's public C++ API, for machines without the vendor's module";
  m.attr("ttfpga_simulated") = true;
  bind_enums(m);
  bind_xclbin(m);
  bind_device(m);
  bind_kernel(m);
  bind_buffer(m);
  m.def("enumerate_devices", &count_devices);
}
