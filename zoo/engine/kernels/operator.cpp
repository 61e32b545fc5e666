// MatMulNBits for onnxruntime: registered under its own name and domain, it stands in for the one that is built in.
//
// onnxruntime's C API is a table of functions that only ever grows (include/onnxruntime/core/session/onnxruntime_c_api.h,
// OrtApi); the few that are called here are named by their place in it. No header of onnxruntime is needed to compile.
#include <cstddef>
#include <cstdint>

#define EXPORT extern "C" __attribute__((visibility("default")))

#if defined(__x86_64__) && defined(__linux__)

#include <sys/mman.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <set>
#include <tuple>

#include "products.h"

namespace {

using zoo::Matrix;
using zoo::Tokens;

constexpr uint32_t API_VERSION = 17;  // onnxruntime 1.17, the first with KernelContext_ParallelFor
constexpr int TILES_FROM[] = {8, 6};  // tokens from which on tiles are faster than rows, of 4 and of 8 bits
constexpr int64_t CHUNK = 1 << 16;    // bytes of a matrix that a thread takes at once, at least
constexpr int64_t CHUNKS = 16;
constexpr size_t HUGE = 1 << 21;

using Api = void* const*;
using Status = void*;  // null is success
struct ApiBase {
  Api (*get)(uint32_t version);
  const char* (*version)();
};

template <int PLACE, class Result, class... Arguments>
struct Function {
  static Result call(Api api, Arguments... arguments) {
    return reinterpret_cast<Result (*)(Arguments...)>(api[PLACE])(arguments...);
  }
};
using CreateStatus = Function<0, Status, int, const char*>;
using CreateCustomOpDomain = Function<26, Status, const char*, void**>;
using CustomOpDomainAdd = Function<27, Status, void*, const void*>;
using AddCustomOpDomain = Function<28, Status, void*, void*>;
using GetTensorMutableData = Function<51, Status, const void*, void**>;
using GetDimensionsCount = Function<61, Status, const void*, size_t*>;
using GetDimensions = Function<62, Status, const void*, int64_t*, size_t>;
using GetTensorShapeElementCount = Function<64, Status, const void*, size_t*>;
using GetTensorTypeAndShape = Function<65, Status, const void*, void**>;
using GetAttributeInt64 = Function<86, Status, const void*, const char*, int64_t*>;
using GetInput = Function<90, Status, const void*, size_t, const void**>;
using GetOutput = Function<91, Status, void*, size_t, const int64_t*, size_t, void**>;
using ReleaseTensorTypeAndShapeInfo = Function<99, void, void*>;
using KernelInfoGetInputCount = Function<230, Status, const void*, size_t*>;
using KernelInfoGetInputName = Function<232, Status, const void*, size_t, char*, size_t*>;
using KernelInfoGetConstantInput = Function<249, Status, const void*, size_t, int*, const void**>;
using ParallelFor = Function<274, Status, const void*, void (*)(void*, size_t), size_t, size_t, void*>;

struct CustomOp {  // OrtCustomOp of API version 17
  uint32_t version;
  void* create_v1;
  const char* (*name)(const CustomOp*);
  const char* (*provider)(const CustomOp*);
  int (*input_type)(const CustomOp*, size_t);
  size_t (*inputs)(const CustomOp*);
  int (*output_type)(const CustomOp*, size_t);
  size_t (*outputs)(const CustomOp*);
  void* compute_v1;
  void (*destroy)(void*);
  int (*input_kind)(const CustomOp*, size_t);
  int (*output_kind)(const CustomOp*, size_t);
  int (*input_memory)(const CustomOp*, size_t);
  int (*variadic[4])(const CustomOp*);
  Status (*create)(const CustomOp*, Api, const void*, void**);
  Status (*compute)(void*, void*);
  Status (*infer_shape)(const CustomOp*, void*);
  int (*start_version)(const CustomOp*);
  int (*end_version)(const CustomOp*);
};

// Room of a thread that grows and is kept, aligned to 64 bytes; null where there is no memory.
struct Room {
  std::unique_ptr<char, void (*)(void*)> bytes{nullptr, std::free};
  size_t size = 0;
  char* at_least(size_t needed) {
    if (size < needed) {
      bytes.reset();
      const size_t wanted = (needed + 4095) / 4096 * 4096;
      bytes.reset(static_cast<char*>(std::aligned_alloc(zoo::BYTES, wanted)));
      size = bytes ? wanted : 0;
    }
    return bytes.get();
  }
};

// Memory in huge pages where the system has them.
struct Huge {
  char* bytes = nullptr;
  size_t mapped = 0;
  explicit Huge(size_t size) : mapped((size + 2 * HUGE - 1) / HUGE * HUGE) {
    void* start = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) return;
    raw = start;
    bytes = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(start) + HUGE - 1) / HUGE * HUGE);
    madvise(bytes, size / HUGE * HUGE, MADV_HUGEPAGE);
  }
  ~Huge() {
    if (raw) munmap(raw, mapped);
  }
  Huge(const Huge&) = delete;

 private:
  void* raw = nullptr;
};

// The operator of one session, so that its kernels are known.
struct SessionOp : CustomOp {
  int64_t session;
};

struct Kernel {
  Api api;
  int64_t session;
  Matrix stored;                           // as onnxruntime holds it
  Matrix moved;                            // in huge pages, once `current` points there
  std::atomic<const Matrix*> current{&stored};
  zoo::AlongRows along_rows;
  std::unique_ptr<Huge> room;
};

std::mutex kernels_lock;  // also held while one matrix is moved
std::set<Kernel*>& kernels = *new std::set<Kernel*>;  // never destroyed: a thread may move weights while the process ends

// Find an initializer among a node's inputs, and how many elements it has; null where the node has no such input.
Status find_initializer(Api api, const void* info, size_t index, const void** data, size_t* count) {
  size_t inputs = 0, length = 0;
  *data = nullptr;
  if (Status failed = KernelInfoGetInputCount::call(api, info, &inputs)) return failed;
  if (index >= inputs) return nullptr;
  if (Status failed = KernelInfoGetInputName::call(api, info, index, nullptr, &length)) return failed;
  if (length <= 1) return nullptr;  // an empty name
  int is_constant = 0;
  const void* value = nullptr;
  if (Status failed = KernelInfoGetConstantInput::call(api, info, index, &is_constant, &value)) return failed;
  if (!is_constant || !value) return CreateStatus::call(api, 2, "MatMulNBits: weights that are not initializers");
  void* shape = nullptr;
  if (Status failed = GetTensorTypeAndShape::call(api, value, &shape)) return failed;
  Status failed = GetTensorShapeElementCount::call(api, shape, count);
  ReleaseTensorTypeAndShapeInfo::call(api, shape);
  return failed ? failed : GetTensorMutableData::call(api, value, const_cast<void**>(data));
}

Status create(const CustomOp* op, Api api, const void* info, void** made) {
  const auto refuse = [&](const char* why) { return CreateStatus::call(api, 2, why); };
  int64_t rows = 0, columns = 0, bits = 0, block = 0, accuracy = 0;
  if (Status failed = GetAttributeInt64::call(api, info, "N", &rows)) return failed;
  if (Status failed = GetAttributeInt64::call(api, info, "K", &columns)) return failed;
  if (Status failed = GetAttributeInt64::call(api, info, "bits", &bits)) return failed;
  if (Status failed = GetAttributeInt64::call(api, info, "block_size", &block)) return failed;
  if (Status failed = GetAttributeInt64::call(api, info, "accuracy_level", &accuracy)) return failed;
  if (accuracy != 4) return refuse("MatMulNBits: tokens that are not rounded to 8 bits");
  if (rows < 1 || columns < 1 || rows > INT32_MAX || columns > INT32_MAX) return refuse("MatMulNBits: no such size");
  const void* data[6];
  size_t counts[6] = {};
  for (size_t index = 1; index < 6; index++)
    if (Status failed = find_initializer(api, info, index, &data[index], &counts[index])) return failed;
  const auto [levels, scales, zeros, order, bias] = std::tie(data[1], data[2], data[3], data[4], data[5]);
  if (!levels || !scales || order) return refuse("MatMulNBits: no weights, or columns in another order");
  auto kernel = std::make_unique<Kernel>();
  kernel->along_rows = zoo::pick_along_rows(bits, block, zeros != nullptr);
  if (!kernel->along_rows) return refuse("MatMulNBits: no such bits or block size");
  kernel->api = api;
  kernel->session = static_cast<const SessionOp*>(op)->session;
  Matrix& w = kernel->stored;
  w.levels = static_cast<const uint8_t*>(levels);
  w.scales = scales;
  w.zeros = static_cast<const uint8_t*>(zeros);
  w.bias = static_cast<const float*>(bias);
  w.rows = rows, w.columns = columns, w.blocks = (columns + block - 1) / block;
  w.bits = static_cast<int>(bits), w.block = static_cast<int>(block), w.narrow = false;
  const size_t lines = rows;
  if (counts[1] != lines * w.row_bytes() || counts[2] != lines * w.blocks || (zeros && counts[3] != lines * w.zero_bytes()) ||
      (bias && counts[5] != lines))
    return refuse("MatMulNBits: weights of another shape");
  const std::lock_guard<std::mutex> lock(kernels_lock);
  kernels.insert(kernel.get());
  *made = kernel.release();
  return nullptr;
}

void destroy(void* self) {
  const std::lock_guard<std::mutex> lock(kernels_lock);
  kernels.erase(static_cast<Kernel*>(self));
  delete static_cast<Kernel*>(self);
}

// What the threads of one product share.
struct Job {
  const Kernel& kernel;
  const Matrix& w;
  const Tokens& tokens;
  const float* x;
  float* y;
  int64_t chunk;
  std::atomic<bool>& out_of_memory;
};

void round_one(void* job, size_t m) {
  const Job& j = *static_cast<Job*>(job);
  const Tokens& t = j.tokens;
  const auto round = j.w.bits == 8 ? zoo::round_token<8> : zoo::round_token<4>;
  round(j.x + m * j.w.columns, j.w, t.levels + m * t.width, t.scales + m * t.blocks, t.sums + m * t.blocks, t.offsets + m * t.blocks);
}

void one_chunk(void* job, size_t at) {
  const Job& j = *static_cast<Job*>(job);
  const int64_t start = at * j.chunk;
  j.kernel.along_rows(j.w, j.tokens, start, std::min(start + j.chunk, j.w.rows), j.y);
}

void one_tile(void* job, size_t at) {
  static thread_local Room room;
  const Job& j = *static_cast<Job*>(job);
  char* tile = room.at_least(zoo::tile_bytes(j.w));
  const auto multiply = j.w.bits == 8 ? zoo::through_tiles<8> : zoo::through_tiles<4>;
  if (tile) multiply(j.w, j.tokens, at * zoo::LANES, tile, j.y);
  else j.out_of_memory = true;
}

// Point to the room for rounded tokens.
Tokens lay_out(const Matrix& w, int64_t count) {
  static thread_local Room room;
  Tokens t{nullptr, nullptr, nullptr, nullptr, count, w.vectors() * zoo::BYTES * (8 / w.bits), w.blocks};
  const size_t numbers = count * t.blocks;
  t.levels = reinterpret_cast<int8_t*>(room.at_least(count * t.width + 3 * numbers * sizeof(float)));
  t.scales = reinterpret_cast<float*>(t.levels + count * t.width);
  t.sums = t.scales + numbers;
  t.offsets = reinterpret_cast<int32_t*>(t.sums + numbers);
  return t;
}

Status compute(void* self, void* context) {
  const Kernel& kernel = *static_cast<Kernel*>(self);
  const Matrix& w = *kernel.current.load(std::memory_order_acquire);
  Api api = kernel.api;
  const void* value = nullptr;
  void *shape_info = nullptr, *x = nullptr, *y = nullptr, *result = nullptr;
  size_t rank = 0;
  int64_t shape[8];
  if (Status failed = GetInput::call(api, context, 0, &value)) return failed;
  if (Status failed = GetTensorMutableData::call(api, value, &x)) return failed;
  if (Status failed = GetTensorTypeAndShape::call(api, value, &shape_info)) return failed;
  Status failed = GetDimensionsCount::call(api, shape_info, &rank);
  if (!failed && rank >= 1 && rank <= 8) failed = GetDimensions::call(api, shape_info, shape, rank);
  ReleaseTensorTypeAndShapeInfo::call(api, shape_info);
  if (failed) return failed;
  if (rank < 1 || rank > 8 || shape[rank - 1] != w.columns) return CreateStatus::call(api, 2, "MatMulNBits: tokens of another width");
  int64_t count = 1;
  for (size_t i = 0; i + 1 < rank; i++) count *= shape[i];
  shape[rank - 1] = w.rows;
  if (Status failed = GetOutput::call(api, context, 0, shape, rank, &result)) return failed;
  if (count == 0) return nullptr;
  if (Status failed = GetTensorMutableData::call(api, result, &y)) return failed;
  const Tokens tokens = lay_out(w, count);
  if (!tokens.levels) return CreateStatus::call(api, 1, "MatMulNBits: out of memory");
  const int64_t bytes = w.rows * static_cast<int64_t>(w.row_bytes());
  const int64_t chunks = std::clamp<int64_t>(bytes / CHUNK, 1, CHUNKS), chunk = (w.rows + chunks - 1) / chunks;
  std::atomic<bool> out_of_memory{false};
  Job job{kernel, w, tokens, static_cast<const float*>(x), static_cast<float*>(y), chunk, out_of_memory};
  if (count < 4) {
    for (int64_t m = 0; m < count; m++) round_one(&job, m);
  } else if (Status failed = ParallelFor::call(api, context, round_one, count, 0, &job)) {
    return failed;
  }
  const bool tiles = count >= TILES_FROM[w.bits == 8];
  const int64_t each = tiles ? zoo::LANES : chunk;
  failed = ParallelFor::call(api, context, tiles ? one_tile : one_chunk, (w.rows + each - 1) / each, 0, &job);
  if (failed || !out_of_memory) return failed;
  return CreateStatus::call(api, 1, "MatMulNBits: out of memory");
}

// Copy a matrix into huge pages, scales as bfloat16 where that loses nothing, and use it from the next product on.
void move(Kernel& kernel) {
  const Matrix& w = kernel.stored;
  const size_t levels = w.rows * w.row_bytes(), zeros = w.zeros ? w.rows * w.zero_bytes() : 0, scales = w.rows * w.blocks;
  const auto aligned = [](size_t size) { return (size + zoo::BYTES - 1) / zoo::BYTES * zoo::BYTES; };
  auto room = std::make_unique<Huge>(aligned(levels) + aligned(scales * sizeof(float)) + zeros);
  if (!room->bytes) return;
  char *to_scales = room->bytes + aligned(levels), *to_zeros = to_scales + aligned(scales * sizeof(float));
  std::memcpy(room->bytes, w.levels, levels);
  const bool narrow = zoo::narrow_exactly(static_cast<const float*>(w.scales), scales, reinterpret_cast<uint16_t*>(to_scales));
  if (!narrow) std::memcpy(to_scales, w.scales, scales * sizeof(float));
  if (zeros) std::memcpy(to_zeros, w.zeros, zeros);
  kernel.moved = w;
  kernel.moved.levels = reinterpret_cast<const uint8_t*>(room->bytes);
  kernel.moved.scales = to_scales;
  kernel.moved.zeros = zeros ? reinterpret_cast<const uint8_t*>(to_zeros) : nullptr;
  kernel.moved.narrow = narrow;
  kernel.room = std::move(room);
  kernel.current.store(&kernel.moved, std::memory_order_release);
}

constexpr int FLOAT = 1, UINT8 = 2, INT32 = 6, REQUIRED = 0, OPTIONAL = 1;
constexpr int INPUT_TYPES[] = {FLOAT, UINT8, FLOAT, UINT8, INT32, FLOAT};  // x, levels, scales, zeros, order, bias
const CustomOp MATMUL_NBITS{
    API_VERSION,
    nullptr,
    [](const CustomOp*) { return "MatMulNBits"; },
    [](const CustomOp*) { return "CPUExecutionProvider"; },
    [](const CustomOp*, size_t index) { return INPUT_TYPES[index]; },
    [](const CustomOp*) -> size_t { return 6; },
    [](const CustomOp*, size_t) { return FLOAT; },
    [](const CustomOp*) -> size_t { return 1; },
    nullptr,
    destroy,
    [](const CustomOp*, size_t index) { return index >= 3 ? OPTIONAL : REQUIRED; },
    [](const CustomOp*, size_t) { return REQUIRED; },
    [](const CustomOp*, size_t) { return 0; },
    {},
    create,
    compute,
    nullptr,
    [](const CustomOp*) { return 1; },
    [](const CustomOp*) { return INT32_MAX; },
};

std::atomic<int64_t> sessions{0};
thread_local int64_t registered = 0;

}  // namespace

// 1 where this processor has the instructions.
EXPORT int zoo_kernels_supported() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

// What onnxruntime calls with a session's options. The operator and its domain are kept for as long as the process.
EXPORT Status RegisterCustomOps(void* options, const ApiBase* base) {
  Api api = base->get(API_VERSION);
  void* domain = nullptr;
  auto* op = new SessionOp{MATMUL_NBITS, ++sessions};
  registered = op->session;
  if (Status failed = CreateCustomOpDomain::call(api, "com.microsoft", &domain)) return failed;
  if (Status failed = CustomOpDomainAdd::call(api, domain, op)) return failed;
  return AddCustomOpDomain::call(api, options, domain);
}

// The number of the session that this thread registered last.
EXPORT int64_t zoo_kernels_registered() { return registered; }

// Move one more matrix of a session, which has to stay open meanwhile; 0 when all are moved or memory is short.
//
// `spans` are starts and stops, `count` pairs, of mappings of a file that were not written to: the pages of levels that
// lie in one are given back, and read again should anything want them.
EXPORT int zoo_kernels_move(int64_t session, const uintptr_t* spans, size_t count) {
  const std::lock_guard<std::mutex> lock(kernels_lock);
  for (Kernel* kernel : kernels) {
    if (kernel->session != session || kernel->room) continue;
    move(*kernel);
    if (!kernel->room) return 0;
    const Matrix& w = kernel->stored;
    const uintptr_t levels = reinterpret_cast<uintptr_t>(w.levels), page = 4096;
    const uintptr_t from = (levels + page - 1) / page * page, to = (levels + w.rows * w.row_bytes()) / page * page;
    for (size_t i = 0; i < count; i++)
      if (spans[2 * i] <= levels && from < to && to <= spans[2 * i + 1])
        madvise(reinterpret_cast<void*>(from), to - from, MADV_DONTNEED);
    return 1;
  }
  return 0;
}

#else  // another processor or system: onnxruntime's own kernels are used

EXPORT int zoo_kernels_supported() { return 0; }

#endif
