// Products of float tokens and a matrix of 4- or 8-bit levels in blocks, read as a package stores it.
//
// A matrix has `rows` outputs of `columns` inputs each. A row is `blocks` blocks of `block` levels, uint8, or two to a
// byte with the even column low; a block has a scale and a zero point: weight = scale * (level - zero). Tokens are
// rounded to int8 with a scale a block, as onnxruntime's MatMulNBits does at accuracy level 4, so that
//   y = sum over blocks of scale * token_scale * (dot(level, token) - zero * sum(token)),
// where dot and sum are exact integers, and the blocks are added in four chains, block 0, 4, 8 … to the first. Few
// tokens go along the rows (`along_rows`: a step of generation is as fast as memory); many go through tiles of 16 rows
// that are transposed in the cache (`through_tiles`: a prompt is as fast as VPDPBUSD, which multiplies 64 pairs of
// bytes). Neither needs the weights in another order, and both round alike: a token's result does not depend on the
// tokens beside it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <immintrin.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // in GCC's own avx512fintrin.h
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace zoo {

constexpr int LANES = 16;   // 32-bit lanes of a vector
constexpr int BYTES = 64;   // bytes of a vector
constexpr int TOGETHER = 4;  // tokens that go along a row at once
constexpr int TILE_TOKENS = 6;  // tokens that go through a tile at once, each with four chains in registers

struct Matrix {
  const uint8_t* levels;  // (rows, row_bytes)
  const void* scales;     // (rows, blocks), float32, or bfloat16 where `narrow`
  const uint8_t* zeros;   // (rows, zero_bytes): as many bits as levels have; null where all are the middle, 128 or 8
  const float* bias;      // (rows); null for none
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
  int8_t* levels;    // (count, width)
  float* scales;     // (count, blocks)
  float* sums;       // (count, blocks): the sum of a block's levels, times its scale
  int32_t* offsets;  // (count, blocks): the sum of a block's levels, times minus the middle, 128 or 8
  int64_t count, width, blocks;
};

inline __mmask16 first(int64_t lanes) { return static_cast<__mmask16>((1u << lanes) - 1); }
inline __mmask64 first_bytes(int64_t bytes) { return bytes >= BYTES ? ~0ull : (1ull << bytes) - 1; }

// Round one token to int8. A block that ends past the last column is filled with zeros.
template <int BITS>
void round_token(const float* x, const Matrix& w, int8_t* levels, float* scales, float* sums, int32_t* offsets) {
  const __m128i evens_odds = _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
  for (int64_t b = 0; b < w.blocks; b++) {
    const int64_t start = b * w.block, left = std::min<int64_t>(w.block, w.columns - start);
    const auto values = [&](int i) { return _mm512_maskz_loadu_ps(left >= i + LANES ? 0xffff : left > i ? first(left - i) : 0, x + start + i); };
    __m512 largest = _mm512_setzero_ps();
    __mmask16 lost = 0;  // not a number, which a maximum forgets
    for (int i = 0; i < w.block; i += LANES) {
      largest = _mm512_max_ps(largest, _mm512_abs_ps(values(i)));
      lost |= _mm512_cmp_ps_mask(values(i), values(i), _CMP_UNORD_Q);
    }
    const float most = lost ? __builtin_nanf("") : _mm512_reduce_max_ps(largest);
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
    const int32_t sum = _mm512_reduce_add_epi32(total);
    sums[b] = scales[b] * sum;
    offsets[b] = static_cast<int32_t>((BITS == 8 ? -128u : -8u) * static_cast<uint32_t>(sum));
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

// Add the pairs of neighbouring lanes of two vectors: in each 128 bits a's two sums, then b's.
inline __m512i add_pairs(__m512i a, __m512i b) {
  const __m512 x = _mm512_castsi512_ps(a), y = _mm512_castsi512_ps(b);
  return _mm512_add_epi32(_mm512_castps_si512(_mm512_shuffle_ps(x, y, 0x88)), _mm512_castps_si512(_mm512_shuffle_ps(x, y, 0xdd)));
}

// Add the 128-bit quarters of two vectors in pairs: a's two sums, then b's.
inline __m512i add_quarters(__m512i a, __m512i b) {
  return _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xdd));
}

// Sum the lanes of each of 16 blocks. Every block has SHARE lanes, one block after the other, in SHARE vectors, of which
// `quads` holds four each after two rounds of `add_pairs`, for SHARE 2 after one.
template <int SHARE>
__m512i sum_blocks(const __m512i* quads) {
  const __m512i by_eight = _mm512_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
  const __m512i by_four = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i by_two = _mm512_setr_epi32(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
  if (SHARE == 16) return add_quarters(add_quarters(quads[0], quads[1]), add_quarters(quads[2], quads[3]));
  if (SHARE == 8) return _mm512_permutexvar_epi32(by_eight, add_quarters(quads[0], quads[1]));
  return _mm512_permutexvar_epi32(SHARE == 4 ? by_four : by_two, quads[0]);
}

// Add what up to sixteen blocks give to the four chains, in their order.
template <bool ZEROS>
__m128 add_blocks(__m128 total, int64_t count, __m512 scaled, __m512 x_scales, __m512 zeros, __m512 x_sums) {
#pragma GCC unroll 4
  for (int four = 0; four < 4; four++) {
    if (4 * four >= count) break;
    const auto part = [&](__m512 all) __attribute__((always_inline)) {
      return four == 0   ? _mm512_castps512_ps128(all)
             : four == 1 ? _mm512_extractf32x4_ps(all, 1)
             : four == 2 ? _mm512_extractf32x4_ps(all, 2)
                         : _mm512_extractf32x4_ps(all, 3);
    };
    total = _mm_fmadd_ps(part(scaled), part(x_scales), total);
    if (ZEROS) total = _mm_fnmadd_ps(part(zeros), part(x_sums), total);
  }
  return total;
}

// Multiply one row with M tokens. SHARE is how many 32-bit lanes of a vector of stored bytes belong to one block, VECTORS
// how many vectors a block has; one of them is 16 or 1.
template <int BITS, int SHARE, int VECTORS, int M, bool ZEROS>
void along_row(const Matrix& w, const Tokens& t, int64_t token, int64_t row, float* y) {
  constexpr int PER = LANES / SHARE;  // blocks of a vector
  constexpr int QUADS = std::max(1, SHARE / 4), QUAD = std::min(4, SHARE);  // vectors go by fours
  const uint8_t* levels = w.levels + row * w.row_bytes();
  const int8_t* x = t.levels + token * t.width;
  const __m512i fifteen = _mm512_set1_epi8(15);
  __m128 total[M];
#pragma GCC unroll 4
  for (int m = 0; m < M; m++) total[m] = _mm_setzero_ps();
  const auto sixteen_blocks = [&](int64_t b, int64_t count, bool whole) __attribute__((always_inline)) {
    const __mmask16 some = whole ? 0xffff : first(count);
    __m512i quads[M][QUADS];
#pragma GCC unroll 4
    for (int q = 0; q < QUADS; q++) {
      if (!whole && q * 4 * PER >= count) {
#pragma GCC unroll 4
        for (int m = 0; m < M; m++) quads[m][q] = _mm512_setzero_si512();
        continue;
      }
      __m512i sum[M][4];
#pragma GCC unroll 4
      for (int i = 0; i < QUAD; i++) {
        const int j = 4 * q + i;
#pragma GCC unroll 4
        for (int m = 0; m < M; m++) sum[m][i] = _mm512_setzero_si512();
        if (!whole && j * PER >= count) continue;
        const __mmask64 mask = first_bytes(whole ? BYTES : (count - j * PER) * (BYTES / PER));
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) {
          const int64_t at = ((b / PER + j) * VECTORS + v) * BYTES;
          const __m512i bytes = whole ? _mm512_loadu_si512(levels + at) : _mm512_maskz_loadu_epi8(mask, levels + at);
          const __m512i even = BITS == 8 ? bytes : _mm512_and_si512(bytes, fifteen);
          const __m512i odd = BITS == 8 ? bytes : _mm512_and_si512(_mm512_srli_epi16(bytes, 4), fifteen);
#pragma GCC unroll 4
          for (int m = 0; m < M; m++) {
            const int8_t* from = x + m * t.width + at * (8 / BITS);
            sum[m][i] = _mm512_dpbusd_epi32(sum[m][i], even, _mm512_loadu_si512(from));
            if (BITS == 4) sum[m][i] = _mm512_dpbusd_epi32(sum[m][i], odd, _mm512_loadu_si512(from + BYTES));
          }
        }
      }
#pragma GCC unroll 4
      for (int m = 0; m < M; m++) {
        const __m512i two = add_pairs(sum[m][0], sum[m][1]);
        quads[m][q] = SHARE == 2 ? two : add_pairs(two, add_pairs(sum[m][2], sum[m][3]));
      }
    }
    const __m512 scales = read_scales(w, row * w.blocks + b, some);
    const __m512 zeros = ZEROS ? _mm512_mul_ps(scales, read_zeros<BITS>(w, row, b, some)) : scales;
#pragma GCC unroll 4
    for (int m = 0; m < M; m++) {
      const int64_t at = (token + m) * t.blocks + b;
      __m512i dots = sum_blocks<SHARE>(quads[m]);
      if (!ZEROS) dots = _mm512_add_epi32(dots, _mm512_maskz_loadu_epi32(some, t.offsets + at));
      const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(dots), scales);
      const __m512 x_sums = ZEROS ? _mm512_maskz_loadu_ps(some, t.sums + at) : scales;
      total[m] = add_blocks<ZEROS>(total[m], whole ? LANES : count, scaled, _mm512_maskz_loadu_ps(some, t.scales + at), zeros, x_sums);
    }
  };
  int64_t b = 0;
  for (; b + LANES <= w.blocks; b += LANES) sixteen_blocks(b, LANES, true);
  if (b < w.blocks) sixteen_blocks(b, w.blocks - b, false);
#pragma GCC unroll 4
  for (int m = 0; m < M; m++) {
    const __m128 pairs = _mm_add_ps(total[m], _mm_movehdup_ps(total[m]));
    y[m * w.rows] = _mm_cvtss_f32(_mm_add_ss(pairs, _mm_movehl_ps(pairs, pairs))) + (w.bias ? w.bias[row] : 0.0f);
  }
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
  float* zeros;     // (blocks, 16): scale times zero point, where zero points are stored
};

template <int BITS>
void fill_tile(const Matrix& w, int64_t row, Tile tile) {
  const size_t row_bytes = w.row_bytes();
  const __m512i fifteen = _mm512_set1_epi8(15);
  const auto source = [&](int r) { return std::min(row + r, w.rows - 1); };
  // In the order of memory, which is faster than by the rows in turn.
  const char* stored = reinterpret_cast<const char*>(w.levels + row * row_bytes);
  const int64_t size = std::min<int64_t>(LANES, w.rows - row) * row_bytes;
  for (int64_t at = 0; at < size; at += BYTES) _mm_prefetch(stored + at, _MM_HINT_T1);
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
    __m512i scales[LANES], zeros[LANES];
    for (int r = 0; r < LANES; r++) {
      const __m512 scale = read_scales(w, source(r) * w.blocks + b, first(count));
      scales[r] = _mm512_castps_si512(scale);
      if (w.zeros) zeros[r] = _mm512_castps_si512(_mm512_mul_ps(scale, read_zeros<BITS>(w, source(r), b, first(count))));
    }
    transpose(scales);
    std::memcpy(tile.scales + b * LANES, scales, count * BYTES);
    if (w.zeros) {
      transpose(zeros);
      std::memcpy(tile.zeros + b * LANES, zeros, count * BYTES);
    }
  }
}

// Multiply a tile with M tokens; y is (M, rows), of which 16 are written, or fewer by the mask.
template <int BITS, int M>
void through_tile(const Matrix& w, const Tokens& t, int64_t token, Tile tile, float* y, __mmask16 mask, __m512 bias) {
  const int64_t words = static_cast<int64_t>(w.block) * BITS / 32;  // groups of four stored bytes of a block
  const int32_t* x[M];
  __m512 chains[4][M];
#pragma GCC unroll 8
  for (int m = 0; m < M; m++) {
    x[m] = reinterpret_cast<const int32_t*>(t.levels + (token + m) * t.width);
    chains[0][m] = chains[1][m] = chains[2][m] = chains[3][m] = _mm512_setzero_ps();
  }
  const auto one_block = [&](int64_t b, __m512* total) __attribute__((always_inline)) {
    __m512i sum[M];
#pragma GCC unroll 8
    for (int m = 0; m < M; m++) sum[m] = _mm512_set1_epi32(w.zeros ? 0 : t.offsets[(token + m) * t.blocks + b]);
    for (int64_t word = b * words; word < (b + 1) * words; word++) {
      const int64_t k = BITS == 8 ? word : word / LANES * (2 * LANES) + word % LANES;
      const __m512i even = tile.levels[k];
#pragma GCC unroll 8
      for (int m = 0; m < M; m++) sum[m] = _mm512_dpbusd_epi32(sum[m], even, _mm512_set1_epi32(x[m][k]));
      if (BITS == 4) {
        const __m512i odd = tile.levels[k + LANES];
#pragma GCC unroll 8
        for (int m = 0; m < M; m++) sum[m] = _mm512_dpbusd_epi32(sum[m], odd, _mm512_set1_epi32(x[m][k + LANES]));
      }
    }
    const __m512 scales = _mm512_load_ps(tile.scales + b * LANES);
#pragma GCC unroll 8
    for (int m = 0; m < M; m++) {
      const __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sum[m]), scales);
      total[m] = _mm512_fmadd_ps(scaled, _mm512_set1_ps(t.scales[(token + m) * t.blocks + b]), total[m]);
    }
    if (w.zeros) {
      const __m512 zeros = _mm512_load_ps(tile.zeros + b * LANES);
#pragma GCC unroll 8
      for (int m = 0; m < M; m++) total[m] = _mm512_fnmadd_ps(zeros, _mm512_set1_ps(t.sums[(token + m) * t.blocks + b]), total[m]);
    }
  };
  int64_t b = 0;
  for (; b + 4 <= w.blocks; b += 4) {
#pragma GCC unroll 4
    for (int chain = 0; chain < 4; chain++) one_block(b + chain, chains[chain]);
  }
#pragma GCC unroll 3
  for (int chain = 0; chain < 3; chain++)
    if (b + chain < w.blocks) one_block(b + chain, chains[chain]);
#pragma GCC unroll 8
  for (int m = 0; m < M; m++) {
    const __m512 all = _mm512_add_ps(_mm512_add_ps(chains[0][m], chains[1][m]), _mm512_add_ps(chains[2][m], chains[3][m]));
    _mm512_mask_storeu_ps(y + m * w.rows, mask, _mm512_add_ps(all, bias));
  }
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
  const __m512 bias = w.bias ? _mm512_maskz_loadu_ps(mask, w.bias + row) : _mm512_setzero_ps();
  int64_t m = 0;
  const auto at = [&] { return y + m * w.rows + row; };
  for (; m + TILE_TOKENS <= t.count; m += TILE_TOKENS) through_tile<BITS, TILE_TOKENS>(w, t, m, tile, at(), mask, bias);
  for (; m + 2 <= t.count; m += 2) through_tile<BITS, 2>(w, t, m, tile, at(), mask, bias);
  for (; m < t.count; m++) through_tile<BITS, 1>(w, t, m, tile, at(), mask, bias);
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
