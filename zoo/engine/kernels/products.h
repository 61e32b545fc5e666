// Products of float tokens and a matrix of 4- or 8-bit levels in blocks, read as a package stores it.
//
// A matrix has `rows` outputs of `columns` inputs each. A row is `blocks` blocks of `block` levels, uint8, or two to a
// byte with the even column low; a block has a scale and a zero point: weight = scale * (level - zero). Tokens are
// rounded to int8 with a scale a block, as onnxruntime's MatMulNBits does at accuracy level 4, so that
//   y = sum over blocks of scale * token_scale * (dot(level, token) - zero * sum(token)),
// where dot and sum are exact integers. Few tokens go along the rows (`along_rows`: a step of generation is as fast as
// memory); many go through tiles of 16 rows that are transposed in the cache (`through_tiles`: a prompt is as fast as
// VPDPBUSD, which multiplies 64 pairs of bytes). Neither needs the weights in another order.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // in GCC's own avx512fintrin.h
#endif

namespace zoo {

constexpr int LANES = 16;   // 32-bit lanes of a vector
constexpr int BYTES = 64;   // bytes of a vector
constexpr int TOGETHER = 4;  // tokens that go along a row at once

struct Matrix {
  const uint8_t* levels;  // (rows, row_bytes)
  const void* scales;     // (rows, blocks), float32, or bfloat16 where `narrow`
  const uint8_t* zeros;   // (rows, zero_bytes): as many bits as levels have; null where all are the middle, 128 or 8
  int64_t rows, columns, blocks;
  int bits, block;
  bool narrow;

  size_t row_bytes() const { return static_cast<size_t>(blocks) * block * bits / 8; }
  size_t zero_bytes() const { return static_cast<size_t>(blocks * bits + 7) / 8; }
  int64_t vectors() const { return (row_bytes() + BYTES - 1) / BYTES; }
};

// Tokens as the products read them. The levels of a token follow the order of stored bytes: for 8 bits as they come, for
// 4 bits the even columns of a vector of 64 bytes, then its odd ones.
struct Tokens {
  int8_t* levels;     // (count, width)
  float* scales;      // (count, blocks)
  float* sums;        // (count, blocks): the sum of a block's levels, times its scale
  int32_t* integers;  // (count, blocks): the sum of a block's levels
  int64_t count, width, blocks;
};

inline __mmask16 first(int64_t lanes) { return static_cast<__mmask16>((1u << lanes) - 1); }
inline __mmask64 first_bytes(int64_t bytes) { return bytes >= BYTES ? ~0ull : (1ull << bytes) - 1; }

// Round one token to int8. A block that ends past the last column is filled with zeros.
template <int BITS>
void round_token(const float* x, const Matrix& w, int8_t* levels, float* scales, float* sums, int32_t* integers) {
  const __m128i evens_odds = _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
  for (int64_t b = 0; b < w.blocks; b++) {
    const int64_t start = b * w.block, left = std::min<int64_t>(w.block, w.columns - start);
    const auto values = [&](int i) { return _mm512_maskz_loadu_ps(left >= i + LANES ? 0xffff : left > i ? first(left - i) : 0, x + start + i); };
    __m512 largest = _mm512_setzero_ps();
    for (int i = 0; i < w.block; i += LANES) largest = _mm512_max_ps(largest, _mm512_abs_ps(values(i)));
    const float most = _mm512_reduce_max_ps(largest);
    const __m512 inverse = _mm512_set1_ps(most > 0 ? 127.0f / most : 0.0f);
    __m512i total = _mm512_setzero_si512();
    for (int i = 0; i < w.block; i += LANES) {
      const __m512i rounded = _mm512_cvtps_epi32(_mm512_mul_ps(values(i), inverse));
      total = _mm512_add_epi32(total, rounded);
      const __m128i bytes = _mm512_cvtepi32_epi8(rounded);
      if (BITS == 8) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(levels + start + i), bytes);
      } else {
        const int64_t at = (start + i) / 2;  // of the stored byte
        int8_t* to = levels + at / BYTES * (2 * BYTES) + at % BYTES;
        const __m128i split = _mm_shuffle_epi8(bytes, evens_odds);
        _mm_storel_epi64(reinterpret_cast<__m128i*>(to), split);
        _mm_storel_epi64(reinterpret_cast<__m128i*>(to + BYTES), _mm_srli_si128(split, 8));
      }
    }
    scales[b] = most / 127.0f;
    integers[b] = _mm512_reduce_add_epi32(total);
    sums[b] = scales[b] * integers[b];
  }
}

// Read the scales of up to 16 blocks from an index on.
inline __m512 read_scales(const Matrix& w, int64_t at, __mmask16 some) {
  if (!w.narrow) return _mm512_maskz_loadu_ps(some, static_cast<const float*>(w.scales) + at);
  const __m256i halves = _mm256_maskz_loadu_epi16(some, static_cast<const uint16_t*>(w.scales) + at);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

// Read the zero points of up to 16 blocks of a row from a block on, a multiple of 16.
template <int BITS>
__m512 read_zeros(const Matrix& w, int64_t row, int64_t block, __mmask16 some) {
  const uint8_t* from = w.zeros + row * w.zero_bytes();
  if (BITS == 8) return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(some, from + block)));
  const __m128i pairs = _mm_maskz_loadu_epi8(first((__builtin_popcount(some) + 1) / 2), from + block / 2);
  const __m128i fifteen = _mm_set1_epi8(15), high = _mm_and_si128(_mm_srli_epi16(pairs, 4), fifteen);
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_unpacklo_epi8(_mm_and_si128(pairs, fifteen), high)));
}

// Multiply one row with M tokens. SHARE is how many 32-bit lanes of a vector of stored bytes belong to one block, VECTORS
// how many vectors a block has; one of them is 16 or 1.
template <int BITS, int SHARE, int VECTORS, int M, bool ZEROS>
void along_row(const Matrix& w, const Tokens& t, int64_t token, int64_t row, float* y) {
  constexpr int PER = LANES / SHARE;  // blocks of a vector
  const uint8_t* levels = w.levels + row * w.row_bytes();
  const int8_t* x = t.levels + token * t.width;
  const float *x_scales = t.scales + token * t.blocks, *x_sums = t.sums + token * t.blocks;
  const __m512i fifteen = _mm512_set1_epi8(15), lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i block_of_lane = _mm512_srli_epi32(lane, __builtin_ctz(SHARE));
  __m512 total[M], offset[M];
#pragma GCC unroll 4
  for (int m = 0; m < M; m++) total[m] = offset[m] = _mm512_setzero_ps();
  const auto sixteen_blocks = [&](int64_t b, int64_t count, bool whole) __attribute__((always_inline)) {
    const __mmask16 some = whole ? 0xffff : first(count);
    const __m512 scales = read_scales(w, row * w.blocks + b, some);
    const __m512 zeros = ZEROS ? _mm512_mul_ps(scales, read_zeros<BITS>(w, row, b, some)) : scales;
    __m512 both[M];
#pragma GCC unroll 4
    for (int m = 0; m < M; m++) {
      both[m] = _mm512_mul_ps(scales, _mm512_maskz_loadu_ps(some, x_scales + m * t.blocks + b));
      offset[m] = _mm512_fmadd_ps(zeros, _mm512_maskz_loadu_ps(some, x_sums + m * t.blocks + b), offset[m]);
    }
#pragma GCC unroll 16
    for (int j = 0; j < SHARE; j++) {
      if (!whole && j * PER >= count) break;
      const __mmask64 mask = first_bytes(whole ? BYTES : std::min<int64_t>(BYTES, (count - j * PER) * (BYTES / PER)));
      __m512i sum[M];
#pragma GCC unroll 4
      for (int m = 0; m < M; m++) sum[m] = _mm512_setzero_si512();
#pragma GCC unroll 4
      for (int v = 0; v < VECTORS; v++) {
        const int64_t at = ((b / PER + j) * VECTORS + v) * BYTES;
        const __m512i bytes = whole ? _mm512_loadu_si512(levels + at) : _mm512_maskz_loadu_epi8(mask, levels + at);
        if (BITS == 8) {
#pragma GCC unroll 4
          for (int m = 0; m < M; m++) sum[m] = _mm512_dpbusd_epi32(sum[m], bytes, _mm512_loadu_si512(x + m * t.width + at));
        } else {
          const __m512i even = _mm512_and_si512(bytes, fifteen), odd = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), fifteen);
#pragma GCC unroll 4
          for (int m = 0; m < M; m++) {
            const int8_t* from = x + m * t.width + 2 * at;
            sum[m] = _mm512_dpbusd_epi32(sum[m], even, _mm512_loadu_si512(from));
            sum[m] = _mm512_dpbusd_epi32(sum[m], odd, _mm512_loadu_si512(from + BYTES));
          }
        }
      }
      const __m512i block = _mm512_add_epi32(block_of_lane, _mm512_set1_epi32(j * PER));
#pragma GCC unroll 4
      for (int m = 0; m < M; m++)
        total[m] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[m]), _mm512_permutexvar_ps(block, both[m]), total[m]);
    }
  };
  int64_t b = 0;
  for (; b + LANES <= w.blocks; b += LANES) sixteen_blocks(b, LANES, true);
  if (b < w.blocks) sixteen_blocks(b, w.blocks - b, false);
  const __m512 zero = _mm512_set1_ps(ZEROS ? 1.0f : BITS == 8 ? 128.0f : 8.0f);
  for (int m = 0; m < M; m++) y[m * w.rows] = _mm512_reduce_add_ps(_mm512_fnmadd_ps(zero, offset[m], total[m]));
}

// Multiply rows with all tokens; y is (count, rows).
template <int BITS, int SHARE, int VECTORS, bool ZEROS>
void along_rows(const Matrix& w, const Tokens& t, int64_t row, int64_t end, float* y) {
  for (; row < end; row++) {
    int64_t m = 0;
    for (; m + TOGETHER <= t.count; m += TOGETHER) along_row<BITS, SHARE, VECTORS, TOGETHER, ZEROS>(w, t, m, row, y + m * w.rows + row);
    float* to = y + m * w.rows + row;
    if (t.count - m == 1) along_row<BITS, SHARE, VECTORS, 1, ZEROS>(w, t, m, row, to);
    if (t.count - m == 2) along_row<BITS, SHARE, VECTORS, 2, ZEROS>(w, t, m, row, to);
    if (t.count - m == 3) along_row<BITS, SHARE, VECTORS, 3, ZEROS>(w, t, m, row, to);
  }
}

using AlongRows = void (*)(const Matrix&, const Tokens&, int64_t, int64_t, float*);

template <int BITS, int BLOCK>
AlongRows pick(bool zeros) {
  constexpr int BLOCK_BYTES = BLOCK * BITS / 8, SHARE = std::min(LANES, BLOCK_BYTES / 4), VECTORS = std::max(1, BLOCK_BYTES / BYTES);
  return zeros ? along_rows<BITS, SHARE, VECTORS, true> : along_rows<BITS, SHARE, VECTORS, false>;
}

// Pick the function for a width and a block; null where there is none.
inline AlongRows pick_along_rows(int64_t bits, int64_t block, bool zeros) {
  switch (bits * 1000 + block) {
    case 4016: return pick<4, 16>(zeros);
    case 4032: return pick<4, 32>(zeros);
    case 4064: return pick<4, 64>(zeros);
    case 4128: return pick<4, 128>(zeros);
    case 4256: return pick<4, 256>(zeros);
    case 8016: return pick<8, 16>(zeros);
    case 8032: return pick<8, 32>(zeros);
    case 8064: return pick<8, 64>(zeros);
    case 8128: return pick<8, 128>(zeros);
    case 8256: return pick<8, 256>(zeros);
    default: return nullptr;
  }
}

// Transpose 16 rows of 16 numbers of 32 bits.
inline void transpose(__m512i* rows) {
  __m512i half[LANES];
  for (int i = 0; i < LANES; i += 2) {
    half[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
    half[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
  }
  for (int i = 0; i < LANES; i += 4) {
    rows[i] = _mm512_unpacklo_epi64(half[i], half[i + 2]);
    rows[i + 1] = _mm512_unpackhi_epi64(half[i], half[i + 2]);
    rows[i + 2] = _mm512_unpacklo_epi64(half[i + 1], half[i + 3]);
    rows[i + 3] = _mm512_unpackhi_epi64(half[i + 1], half[i + 3]);
  }
  for (int i = 0; i < 4; i++) {
    const __m512i a = _mm512_shuffle_i32x4(rows[i], rows[i + 4], 0x88), b = _mm512_shuffle_i32x4(rows[i], rows[i + 4], 0xdd);
    const __m512i c = _mm512_shuffle_i32x4(rows[i + 8], rows[i + 12], 0x88), d = _mm512_shuffle_i32x4(rows[i + 8], rows[i + 12], 0xdd);
    half[i] = _mm512_shuffle_i32x4(a, c, 0x88);
    half[i + 4] = _mm512_shuffle_i32x4(b, d, 0x88);
    half[i + 8] = _mm512_shuffle_i32x4(a, c, 0xdd);
    half[i + 12] = _mm512_shuffle_i32x4(b, d, 0xdd);
  }
  std::copy(half, half + LANES, rows);
}

// Sixteen rows, each vector four neighbours of every row, in the order of a token's levels.
struct Tile {
  __m512i* levels;  // (width / 4)
  float* scales;    // (blocks, 16)
  float* offsets;   // (blocks, 16): scale times zero point, where zero points are stored
};

template <int BITS>
void fill_tile(const Matrix& w, int64_t row, Tile tile) {
  const size_t row_bytes = w.row_bytes();
  const __m512i fifteen = _mm512_set1_epi8(15);
  const auto source = [&](int r) { return std::min(row + r, w.rows - 1); };
  for (int64_t v = 0; v < w.vectors(); v++) {
    const __mmask64 mask = first_bytes(row_bytes - v * BYTES);
    __m512i even[LANES], odd[LANES];
    for (int r = 0; r < LANES; r++) {
      even[r] = _mm512_maskz_loadu_epi8(mask, w.levels + source(r) * row_bytes + v * BYTES);
      if (BITS == 4) {
        odd[r] = _mm512_and_si512(_mm512_srli_epi16(even[r], 4), fifteen);
        even[r] = _mm512_and_si512(even[r], fifteen);
      }
    }
    __m512i* to = tile.levels + v * LANES * (8 / BITS);
    transpose(even);
    std::copy(even, even + LANES, to);
    if (BITS == 4) {
      transpose(odd);
      std::copy(odd, odd + LANES, to + LANES);
    }
  }
  for (int64_t b = 0; b < w.blocks; b += LANES) {
    const int64_t count = std::min<int64_t>(LANES, w.blocks - b);
    __m512i scales[LANES], offsets[LANES];
    for (int r = 0; r < LANES; r++) {
      const __m512 scale = read_scales(w, source(r) * w.blocks + b, first(count));
      scales[r] = _mm512_castps_si512(scale);
      if (w.zeros) offsets[r] = _mm512_castps_si512(_mm512_mul_ps(scale, read_zeros<BITS>(w, source(r), b, first(count))));
    }
    transpose(scales);
    std::memcpy(tile.scales + b * LANES, scales, count * BYTES);
    if (w.zeros) {
      transpose(offsets);
      std::memcpy(tile.offsets + b * LANES, offsets, count * BYTES);
    }
  }
}

// Multiply a tile with M tokens; y is (M, rows), of which 16 are written, or fewer by the mask.
template <int BITS, int M>
void through_tile(const Matrix& w, const Tokens& t, int64_t token, Tile tile, float* y, __mmask16 mask) {
  const int64_t words = static_cast<int64_t>(w.block) * BITS / 32;  // groups of four stored bytes of a block
  const int32_t* x[M];
  __m512 total[M];
#pragma GCC unroll 12
  for (int m = 0; m < M; m++) {
    x[m] = reinterpret_cast<const int32_t*>(t.levels + (token + m) * t.width);
    total[m] = _mm512_setzero_ps();
  }
  const int zero = w.zeros ? 0 : BITS == 8 ? -128 : -8;
  for (int64_t b = 0; b < w.blocks; b++) {
    __m512i sum[M];
#pragma GCC unroll 12
    for (int m = 0; m < M; m++) sum[m] = _mm512_set1_epi32(zero * t.integers[(token + m) * t.blocks + b]);
    for (int64_t word = b * words; word < (b + 1) * words; word++) {
      const int64_t k = BITS == 8 ? word : word / LANES * (2 * LANES) + word % LANES;
      const __m512i even = tile.levels[k];
#pragma GCC unroll 12
      for (int m = 0; m < M; m++) sum[m] = _mm512_dpbusd_epi32(sum[m], even, _mm512_set1_epi32(x[m][k]));
      if (BITS == 4) {
        const __m512i odd = tile.levels[k + LANES];
#pragma GCC unroll 12
        for (int m = 0; m < M; m++) sum[m] = _mm512_dpbusd_epi32(sum[m], odd, _mm512_set1_epi32(x[m][k + LANES]));
      }
    }
    const __m512 scales = _mm512_load_ps(tile.scales + b * LANES);
#pragma GCC unroll 12
    for (int m = 0; m < M; m++) {
      const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sum[m]), scales);
      total[m] = _mm512_fmadd_ps(scaled, _mm512_set1_ps(t.scales[(token + m) * t.blocks + b]), total[m]);
    }
    if (w.zeros) {
      const __m512 offsets = _mm512_load_ps(tile.offsets + b * LANES);
#pragma GCC unroll 12
      for (int m = 0; m < M; m++) total[m] = _mm512_fnmadd_ps(offsets, _mm512_set1_ps(t.sums[(token + m) * t.blocks + b]), total[m]);
    }
  }
#pragma GCC unroll 12
  for (int m = 0; m < M; m++) _mm512_mask_storeu_ps(y + m * w.rows, mask, total[m]);
}

// Bytes of the tile of a matrix.
inline size_t tile_bytes(const Matrix& w) { return (w.vectors() * LANES * (8 / w.bits) + 2 * w.blocks) * BYTES; }

// Multiply the sixteen rows from `row` on with all tokens, in `room` of `tile_bytes`, aligned to 64; y is (count, rows).
template <int BITS>
void through_tiles(const Matrix& w, const Tokens& t, int64_t row, char* room, float* y) {
  const size_t levels = w.vectors() * LANES * (8 / BITS) * BYTES;
  float* scales = reinterpret_cast<float*>(room + levels);
  const Tile tile{reinterpret_cast<__m512i*>(room), scales, scales + w.blocks * LANES};
  fill_tile<BITS>(w, row, tile);
  const __mmask16 mask = w.rows - row >= LANES ? 0xffff : first(w.rows - row);
  int64_t m = 0;
  const auto at = [&] { return y + m * w.rows + row; };
  for (; m + 12 <= t.count; m += 12) through_tile<BITS, 12>(w, t, m, tile, at(), mask);
  if (m + 8 <= t.count) through_tile<BITS, 8>(w, t, m, tile, at(), mask), m += 8;
  if (m + 4 <= t.count) through_tile<BITS, 4>(w, t, m, tile, at(), mask), m += 4;
  for (; m < t.count; m++) through_tile<BITS, 1>(w, t, m, tile, at(), mask);
}

// Write float32 numbers as bfloat16; false, with nothing of use written, where one would lose bits.
inline bool narrow_exactly(const float* from, size_t count, uint16_t* to) {
  uint32_t lost = 0;
  for (size_t i = 0; i < count; i++) {
    uint32_t bits;
    std::memcpy(&bits, from + i, sizeof bits);
    lost |= bits & 0xffff;
    to[i] = static_cast<uint16_t>(bits >> 16);
  }
  return lost == 0;
}

}  // namespace zoo

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC diagnostic pop
#pragma GCC pop_options
#endif
