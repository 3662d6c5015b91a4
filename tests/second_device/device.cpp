// A device that is none: its memory is the host's, its operations are the CPU's. What it is for: whatever mixes it with
// the CPU raises, as on a GPU, and what a GPU would be asked to do is counted. Registered as torch's PrivateUse1.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/ExpandUtils.h>
#include <ATen/autocast_mode.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/ConvUtils.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <map>
#include <mutex>
#include <set>
#include <string>

namespace {

constexpr auto DEVICE = c10::DeviceType::PrivateUse1;

// -- what is counted

std::mutex counting;
std::map<std::string, int64_t> launches, waits;
thread_local int inside = 0;  // of an operation that is counted already

struct Inside {
  Inside() { ++inside; }
  ~Inside() { --inside; }
};

void count(std::map<std::string, int64_t>& what, const std::string& name) {
  if (inside) return;
  std::lock_guard<std::mutex> lock(counting);
  ++what[name];
}

// -- memory, current device, generator

std::atomic<int64_t> held{0}, peak{0};

// Before each piece of memory stands how much it is.
constexpr size_t HEAD = 64;

void give_back(void* data) {
  auto* begin = static_cast<char*>(data) - HEAD;
  held -= *reinterpret_cast<int64_t*>(begin);
  std::free(begin);
}

struct Memory final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    if (!bytes) return {nullptr, nullptr, &c10::detail::deleteNothing, c10::Device(DEVICE, 0)};
    auto* begin = static_cast<char*>(std::aligned_alloc(HEAD, HEAD + (bytes + HEAD - 1) / HEAD * HEAD));
    TORCH_CHECK(begin, "the second device is out of memory");
    *reinterpret_cast<int64_t*>(begin) = bytes;
    const int64_t now = held += bytes;
    for (int64_t most = peak; now > most && !peak.compare_exchange_weak(most, now);) {
    }
    return {begin + HEAD, begin + HEAD, &give_back, c10::Device(DEVICE, 0)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &give_back; }
  void copy_data(void* to, const void* from, size_t bytes) const override { default_copy_data(to, from, bytes); }
};
Memory memory;
REGISTER_ALLOCATOR(DEVICE, &memory);

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return DEVICE; }
  c10::Device exchangeDevice(c10::Device) const override { return getDevice(); }
  c10::Device getDevice() const override { return c10::Device(DEVICE, 0); }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const noexcept override { return c10::Stream(c10::Stream::DEFAULT, getDevice()); }
  c10::Stream getDefaultStream(c10::Device d) const override { return getStream(d); }
  c10::Stream getNewStream(c10::Device d, int) const override { return getStream(d); }
  c10::Stream exchangeStream(c10::Stream) const noexcept override { return getStream(getDevice()); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
  void synchronizeEvent(void*) const override {}
  void synchronizeDevice(const c10::DeviceIndex) const override {}
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard)

struct Random final : at::CPUGeneratorImpl {
  explicit Random(uint64_t seed) : at::CPUGeneratorImpl(seed) {
    device_ = c10::Device(DEVICE, 0);
    key_set_ = c10::DispatchKeySet(c10::DispatchKey::PrivateUse1);
  }
};

const at::Generator& default_generator() {
  static const at::Generator generator = at::make_generator<Random>(c10::default_rng_seed_val);
  return generator;
}

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex) const override { return 0; }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex) const override { return 0; }
  void setCurrentDevice(c10::DeviceIndex) const override {}
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override { return default_generator(); }
  at::Generator getNewGenerator(c10::DeviceIndex) const override {
    return at::make_generator<Random>(c10::default_rng_seed_val);
  }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t bytes) const override {
    auto data = memory.allocate(bytes);
    if (data.get() && storage.data()) std::memcpy(data.get(), storage.data(), std::min(bytes, storage.nbytes()));
    storage.unsafeGetStorageImpl()->set_data_ptr_noswap(std::move(data));
    storage.unsafeGetStorageImpl()->set_nbytes(bytes);
  }
};
const bool hooked = [] {
  at::RegisterPrivateUse1HooksInterface(new Hooks());
  return true;
}();

// -- operations that a CPU's kernel cannot stand for

at::Tensor empty(at::IntArrayRef size, std::optional<at::ScalarType> type, std::optional<at::Layout>,
                 std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  constexpr c10::DispatchKeySet keys(c10::DispatchKey::PrivateUse1);
  return at::detail::empty_generic(size, &memory, keys, c10::dtype_or_default(type), format);
}

at::Tensor empty_strided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> type,
                         std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  constexpr c10::DispatchKeySet keys(c10::DispatchKey::PrivateUse1);
  return at::detail::empty_strided_generic(size, stride, &memory, keys, c10::dtype_or_default(type));
}

// The CPU's view of the same numbers.
at::Tensor on_host(const at::Tensor& tensor) {
  if (tensor.device().is_cpu()) return tensor;
  auto options = tensor.options().device(at::kCPU).requires_grad(false);
  auto found = at::from_blob(tensor.data_ptr(), tensor.sizes(), tensor.strides(), options);
  if (tensor.is_conj()) found = found.conj();
  return tensor.is_neg() ? found._neg_view() : found;
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  const bool up = from.device().is_cpu(), down = to.device().is_cpu();
  count(launches, up ? "copy to the device" : down ? "copy to the host" : "copy");
  if (down || (up && !non_blocking)) count(waits, up ? "copy to the device" : "copy to the host");
  Inside here;
  on_host(to).copy_(on_host(from));
  return to;
}

const at::Tensor& resize_(const at::Tensor& self, at::SymIntArrayRef size, std::optional<at::MemoryFormat>) {
  auto* impl = self.unsafeGetTensorImpl();
  impl->set_sizes_contiguous(C10_AS_INTARRAYREF_SLOW(size));
  const size_t bytes = (impl->numel() + impl->storage_offset()) * impl->dtype().itemsize();
  if (bytes > impl->storage().nbytes()) Hooks().resizePrivateUse1Bytes(impl->storage(), bytes);
  return self;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  if (from.sizes() != to.sizes()) to.resize_(from.sizes());
  return copy_from(from, to, false);
}

at::Scalar local_scalar(const at::Tensor& self) {
  count(waits, "a number read");
  count(launches, "copy to the host");
  Inside here;
  return on_host(self).item();
}

at::Tensor& set_storage(at::Tensor& self, at::Storage source, c10::SymInt offset, c10::SymIntArrayRef size,
                        c10::SymIntArrayRef stride) {
  auto* impl = self.unsafeGetTensorImpl();
  impl->set_storage_keep_dtype(std::move(source));
  impl->set_storage_offset(offset.expect_int());
  const auto sizes = C10_AS_INTARRAYREF_SLOW(size);
  if (stride.empty() && !sizes.empty()) {
    impl->set_sizes_contiguous(sizes);
    impl->set_storage_offset(offset.expect_int());
  } else {
    impl->set_sizes_and_strides(sizes, C10_AS_INTARRAYREF_SLOW(stride), offset.expect_int());
  }
  return self;
}

at::Tensor& set_whole_storage(at::Tensor& self, at::Storage source) {
  const int64_t size = source.nbytes() / self.dtype().itemsize();
  return self.set_(std::move(source), 0, size, {});
}

at::Tensor& set_nothing(at::Tensor& self) {
  return self.set_(c10::Storage(c10::Storage::use_byte_size_t(), 0, memory.allocate(0), &memory, true), 0, {0}, {});
}

at::Tensor convolution(const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                       at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
                       at::IntArrayRef output_padding, int64_t groups) {
  count(launches, "convolution");
  Inside here;
  std::optional<at::Tensor> host_bias;
  if (bias && bias->defined()) host_bias = on_host(*bias);
  auto out = at::convolution(on_host(input), on_host(weight), host_bias, stride, padding, dilation, transposed,
                             output_padding, groups);
  return out.to(input.device());
}

// One launch on a GPU, however many tensors there are.
void add_to_each(at::TensorList tensors, const at::Scalar& number) {
  count(launches, "aten::_foreach_add_");
  Inside here;
  for (const auto& tensor : tensors) tensor.add_(number);
}

// -- everything else

// Operations after which a GPU's host waits: their result's size depends on values.
const std::set<std::string> WAITING = {
    "aten::nonzero",      "aten::masked_select", "aten::_unique2",        "aten::unique_dim",
    "aten::bincount",     "aten::equal",         "aten::unique_consecutive", "aten::is_nonzero",
    "aten::_unique",      "aten::histc",         "aten::nonzero_static_",  "aten::allclose",
};

bool is_mask(const at::Tensor& t) { return t.defined() && (t.scalar_type() == at::kBool || t.scalar_type() == at::kByte); }

void check_tensor(const at::Tensor& tensor, const std::string& name, bool& on_device, std::string& stranger) {
  if (!tensor.defined()) return;
  if (!tensor.device().is_cpu()) on_device = true;
  else if (tensor.dim() > 0) stranger = "a CPU tensor of shape " + c10::str(tensor.sizes());
}

void fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto& schema = op.schema();
  const std::string name = schema.name();
  const auto arguments = torch::jit::last(*stack, schema.arguments().size());
  bool on_device = false, mask = false, counted_size = false;
  std::string stranger;
  static at::Generator of_the_host = at::make_generator<at::CPUGeneratorImpl>(0);
  bool draws = false;
  at::Generator drawn = default_generator();
  for (size_t k = 0; k < arguments.size(); ++k) {
    const auto& value = arguments[k];
    if (value.isTensor()) {
      check_tensor(value.toTensor(), name, on_device, stranger);
    } else if (value.isTensorList()) {
      for (const at::Tensor& tensor : value.toTensorVector()) check_tensor(tensor, name, on_device, stranger);
    } else if (value.isList() && name == "aten::_index_put_impl_") {
      for (const at::IValue& item : value.toListRef()) mask |= item.isTensor() && is_mask(item.toTensor());
    } else if (value.isDevice()) {
      on_device |= !value.toDevice().is_cpu();
    }
    const auto& argument = schema.arguments()[k];
    if (argument.name() == "values" && value.isTensor() && value.toTensor().numel() == 1) mask = false;  // masked_fill
    if (argument.name() == "output_size" && !value.isNone()) counted_size = true;
    if (argument.name() != "generator") continue;
    draws = true;
    if (value.isGenerator()) {
      drawn = value.toGenerator();
      TORCH_CHECK(drawn.device().type() == DEVICE, name, ": a CPU generator cannot draw on the second device");
    }
  }
  TORCH_CHECK(!on_device || stranger.empty(), name, ": ", stranger, " meets tensors of the second device");
  count(launches, name);
  const bool repeats = name == "aten::repeat_interleave" && !counted_size;
  if (WAITING.count(name) || mask || repeats) count(waits, name);
  Inside here;
  if (!draws) return at::native::cpu_fallback(op, stack);
  // A CPU's kernel wants a CPU's generator: one with the state of the device's stands for it.
  static std::mutex drawing;
  std::lock_guard<std::mutex> lock(drawing);
  of_the_host.set_state(drawn.get_state());
  for (size_t k = 0; k < arguments.size(); ++k)
    if (schema.arguments()[k].name() == "generator") (*stack)[stack->size() - arguments.size() + k] = of_the_host;
  at::native::cpu_fallback(op, stack);
  drawn.set_state(of_the_host.get_state());
}

}  // namespace

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>()); }

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", TORCH_FN(empty));
  m.impl("empty_strided", TORCH_FN(empty_strided));
  m.impl("_copy_from", TORCH_FN(copy_from));
  m.impl("_copy_from_and_resize", TORCH_FN(copy_from_and_resize));
  m.impl("_local_scalar_dense", TORCH_FN(local_scalar));
  m.impl("resize_", TORCH_FN(resize_));
  m.impl("as_strided", TORCH_FN(at::native::as_strided_tensorimpl));
  m.impl("view", TORCH_FN(at::native::view));
  m.impl("_reshape_alias", TORCH_FN(at::native::_reshape_alias));
  m.impl("unfold", TORCH_FN(at::native::unfold));
  m.impl("set_.source_Storage_storage_offset", TORCH_FN(set_storage));
  m.impl("set_.source_Storage", TORCH_FN(set_whole_storage));
  m.impl("set_", TORCH_FN(set_nothing));
  m.impl("_foreach_add_.Scalar", TORCH_FN(add_to_each));
  m.impl("convolution_overrideable", TORCH_FN(convolution));
}

TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, m) { m.fallback(torch::CppFunction::makeFallthrough()); }

TORCH_LIBRARY_IMPL(aten, AutocastPrivateUse1, m) {
#define LOWER(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, lower_precision_fp)
#define HIGHER(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, fp32)
#define WIDEST(...) KERNEL_PRIVATEUSEONE(__VA_ARGS__, promote)
  using namespace at::autocast;
  AT_FORALL_LOWER_PRECISION_FP(LOWER)
  AT_FORALL_FP32(HIGHER)
  AT_FORALL_PROMOTE(WIDEST)
}

extern "C" {

// Lines "name<tab>count" of launches (0) or waits (1) since the last call, into a buffer; the bytes that it takes.
int64_t second_device_counts(int32_t which, char* buffer, int64_t size) {
  std::lock_guard<std::mutex> lock(counting);
  std::string text;
  for (const auto& [name, number] : which ? waits : launches) text += name + "\t" + std::to_string(number) + "\n";
  if (size < static_cast<int64_t>(text.size())) return text.size();
  std::copy(text.begin(), text.end(), buffer);
  return text.size();
}

// Reads the default generator's state into a buffer, or takes it from there; its size in bytes.
int64_t second_device_random(int32_t take, char* buffer) {
  at::Generator generator = default_generator();
  auto state = generator.get_state();
  if (take) {
    std::copy(buffer, buffer + state.numel(), static_cast<char*>(state.data_ptr()));
    generator.set_state(state);
  } else if (buffer) {
    std::copy_n(static_cast<const char*>(state.data_ptr()), state.numel(), buffer);
  }
  return state.numel();
}

void second_device_seed(uint64_t seed) {
  at::Generator generator = default_generator();
  generator.set_current_seed(seed);
}

// Bytes held at most since the last call, and from now on counted from what is held now.
int64_t second_device_peak() {
  const int64_t most = peak.exchange(held);
  return most;
}

int64_t second_device_held() { return held; }

void second_device_reset() {
  std::lock_guard<std::mutex> lock(counting);
  launches.clear();
  waits.clear();
}

}
