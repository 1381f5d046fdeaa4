// An xclbin taken apart, and the kernel in it called with what its registers point to: see program.hpp.
#include "program.hpp"

#include <dlfcn.h>
#include <unistd.h>
#include <xclbin.h>

#include <cstdlib>
#include <cstring>

namespace u50 {
namespace {

constexpr size_t kScalars = 2;        // command, n_examples
constexpr size_t kWithoutTaps = 5;    // + examples, image, results
constexpr size_t kWithTaps = 7;       // + trace, overrides
enum Command : uint32_t { kLoad = 0, kStore = 3 };

template <typename Section>
const Section* section(const axlf* top, axlf_section_kind kind) {
  const axlf_section_header* found = xclbin::get_axlf_section(top, kind);
  if (!found || found->m_sectionOffset + found->m_sectionSize > top->m_header.m_length) return nullptr;
  return reinterpret_cast<const Section*>(reinterpret_cast<const char*>(top) + found->m_sectionOffset);
}

std::string text_of(const axlf* top, axlf_section_kind kind) {
  const axlf_section_header* found = xclbin::get_axlf_section(top, kind);
  const char* begin = section<char>(top, kind);
  return begin ? std::string(begin, found->m_sectionSize) : "";
}

/// Register offsets of the kernel's arguments in their order: the metadata is the one place they come from.
std::vector<Argument> arguments_of(const std::string& metadata) {
  std::vector<Argument> arguments;
  const std::string key = " offset=\"";
  for (size_t at = metadata.find("<arg "); at != std::string::npos; at = metadata.find("<arg ", at + 1)) {
    const size_t end = metadata.find('>', at);
    const size_t offset = metadata.find(key, at);
    if (offset > end) continue;
    const auto value = std::strtoul(metadata.c_str() + offset + key.size(), nullptr, 0);
    arguments.push_back({static_cast<uint32_t>(value), -1});
  }
  return arguments;
}

/// A private copy of the kernel: each device has on-chip memory of its own, and the loader would share it.
void* open_copy(const char* bytes, size_t size, std::string& why) {
  const char* folder = std::getenv("TMPDIR");
  std::string path = std::string(folder && *folder ? folder : "/tmp") + "/ttfpga-u50-XXXXXX";
  const int file = mkstemp(path.data());
  if (file < 0) {
    why = "can't write a temporary file";
    return nullptr;
  }
  size_t written = 0;
  while (written < size) {
    const ssize_t n = write(file, bytes + written, size - written);
    if (n <= 0) break;
    written += static_cast<size_t>(n);
  }
  close(file);
  void* library = written == size ? dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL) : nullptr;
  if (!library) why = "its bitstream is not a kernel compiled for simulation";
  unlink(path.c_str());
  return library;
}

}  // namespace

std::unique_ptr<Program> Program::load(const axlf* top, std::string& why) {
  const auto* topology = section<mem_topology>(top, MEM_TOPOLOGY);
  const auto* links = section<connectivity>(top, CONNECTIVITY);
  const auto* bitstream = section<char>(top, BITSTREAM);
  if (!topology || !links || !bitstream) {
    why = "it lacks a section: expected BITSTREAM, MEM_TOPOLOGY and CONNECTIVITY";
    return nullptr;
  }
  std::unique_ptr<Program> program(new Program);
  for (int i = 0; i < topology->m_count; ++i) {
    const mem_data& bank = topology->m_mem_data[i];
    program->banks_.push_back({bank.m_base_address, bank.m_size * 1024, bank.m_used != 0});
  }
  program->arguments_ = arguments_of(text_of(top, EMBEDDED_METADATA));
  auto& arguments = program->arguments_;
  if (arguments.size() != kWithoutTaps && arguments.size() != kWithTaps) {
    why = "its kernel does not have the arguments of this project's";
    return nullptr;
  }
  for (int i = 0; i < links->m_count; ++i) {
    const connection& link = links->m_connection[i];
    if (link.arg_index >= 0 && static_cast<size_t>(link.arg_index) < arguments.size())
      arguments[link.arg_index].bank = link.mem_data_index;
  }
  const axlf_section_header* header = xclbin::get_axlf_section(top, BITSTREAM);
  program->library_ = open_copy(bitstream, header->m_sectionSize, why);
  if (!program->library_) return nullptr;
  using Count = uint32_t (*)();
  program->entry_ = reinterpret_cast<Entry>(dlsym(program->library_, "ttfpga_csim_run"));
  program->error_ = reinterpret_cast<Error>(dlsym(program->library_, "ttfpga_csim_error"));
  const auto image = reinterpret_cast<Count>(dlsym(program->library_, "ttfpga_csim_image_words"));
  const auto trace = reinterpret_cast<Count>(dlsym(program->library_, "ttfpga_csim_trace_words"));
  const auto example = reinterpret_cast<Count>(dlsym(program->library_, "ttfpga_csim_example_words"));
  program->result_words_ = reinterpret_cast<ResultWords>(dlsym(program->library_, "ttfpga_csim_result_words"));
  if (!program->entry_ || !program->error_ || !image || !trace || !example || !program->result_words_) {
    why = "its bitstream is not this project's kernel compiled for simulation";
    return nullptr;
  }
  program->image_words_ = image();
  program->trace_words_ = trace();
  program->example_words_ = example();
  return program;
}

Program::~Program() {
  if (library_) dlclose(library_);
}

std::string Program::run(const std::vector<uint32_t>& registers, DeviceMemory& memory) const {
  const auto word = [&](uint32_t offset) { return offset / 4 < registers.size() ? registers[offset / 4] : 0; };
  const uint32_t command = word(arguments_[0].offset);
  const uint32_t n = word(arguments_[1].offset);
  const size_t of_example = result_words_(command);
  // On the card a wrong address hangs or corrupts something silently. Here it stops the run, so that it shows.
  const bool image_used = command == kLoad || command == kStore;
  const bool examples_used = n > 0 && of_example > 0;
  const size_t least[] = {examples_used ? size_t{4} * n * example_words_ : 4,
                          image_used ? size_t{4} * image_words_ : 4, 4 * (1 + n * of_example),
                          size_t{4} * trace_words_, size_t{4} * trace_words_};
  void* buffers[kWithTaps - kScalars] = {};
  for (size_t i = kScalars; i < arguments_.size(); ++i) {
    const uint32_t offset = arguments_[i].offset;
    const uint64_t address = word(offset) | (static_cast<uint64_t>(word(offset + 4)) << 32);
    const std::string which = "argument " + std::to_string(i);
    if (address == 0) {
      if (i == kWithoutTaps - 1) return which + " (results) is null";
      continue;
    }
    if (address % 4) return which + " is not aligned to 32-bit words";
    if (memory.bank_of(address) != arguments_[i].bank) return which + " lies in a bank that it has no link to";
    buffers[i - kScalars] = memory.find(address, least[i - kScalars]);
    if (!buffers[i - kScalars]) return which + " is not in a buffer, or reaches beyond its end";
  }
  if (examples_used && !buffers[0]) return "argument 2 (examples) is null";
  if (image_used && !buffers[1]) return "argument 3 (image) is null";
  entry_(command, n, static_cast<uint32_t*>(buffers[0]), static_cast<uint32_t*>(buffers[1]),
         static_cast<float*>(buffers[2]), static_cast<float*>(buffers[3]), static_cast<uint32_t*>(buffers[4]));
  const char* error = error_();
  return error ? error : "";
}

}  // namespace u50
