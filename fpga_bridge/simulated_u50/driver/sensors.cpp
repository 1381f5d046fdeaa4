// Sensors: see sensors.hpp. The runtime asks for them by requests in a table, which Debian's prebuilt device
// factory fills for its emulators with six others. No header declares the table: what follows has its layout in
// XRT 2022.1, and a test reads each sensor through the runtime.
#include "sensors.hpp"

#include <map>
#include <memory>
#include <string>
#include <typeinfo>

namespace u50 {
namespace {

/// As boost::any: one pointer to a value that knows its type.
class Any {
 public:
  template <typename Type>
  explicit Any(Type value) : content_(new Held<Type>(value)) {}
  Any(const Any& other) : content_(other.content_->clone()) {}
  Any& operator=(const Any&) = delete;
  ~Any() { delete content_; }

 private:
  struct Content {
    virtual ~Content() = default;
    virtual const std::type_info& type() const noexcept = 0;
    virtual Content* clone() const = 0;
  };
  template <typename Type>
  struct Held : Content {
    explicit Held(Type held) : held(held) {}
    const std::type_info& type() const noexcept override { return typeid(Type); }
    Content* clone() const override { return new Held(held); }
    Type held;
  };

  Content* content_;
};

/// As the runtime's request: of these functions only the first is called for a sensor.
class Request {
 public:
  explicit Request(Any (*read)(const xrt_core::device*)) : read_(read) {}
  virtual ~Request() = default;
  virtual Any get(const xrt_core::device* device) const { return read_(device); }
  virtual Any get(const xrt_core::device*, const Any&) const { return Any(false); }
  virtual Any get(const xrt_core::device*, const Any&, const Any&) const { return Any(false); }
  virtual Any get(const xrt_core::device*, int, const std::string&) const { return Any(false); }
  virtual Any get(const xrt_core::device*, const Any&, const Any&, const Any&) const { return Any(false); }
  virtual void put(const xrt_core::device*, const Any&) const {}

 private:
  Any (*read_)(const xrt_core::device*);
};

/// The runtime's numbers of the requests.
enum Key { kMaxPowerLevel = 40, kPowerWarning = 41, kFpgaTemperature = 76, kMicrowatts = 136 };

// In device_hwemu.cxx.o, made visible to the linker by the build.
extern std::map<int, std::unique_ptr<Request>> requests __asm__("_ZN12_GLOBAL__N_1L9query_tblE");

}  // namespace

void add_sensors() {
  const auto add = [](Key key, Any (*read)(const xrt_core::device*)) {
    requests[key] = std::make_unique<Request>(read);
  };
  add(kFpgaTemperature, [](const xrt_core::device*) { return Any(kTemperature); });
  add(kMicrowatts, [](const xrt_core::device* device) { return Any(works(device) ? kPowerAtWork : kPowerAtRest); });
  // Asked for with the power, which is not reported without: no warning, and a limit of 75 W.
  add(kPowerWarning, [](const xrt_core::device*) { return Any(false); });
  add(kMaxPowerLevel, [](const xrt_core::device*) { return Any(uint64_t{0}); });
}

}  // namespace u50
