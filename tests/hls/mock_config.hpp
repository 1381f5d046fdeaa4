// A stand-in for the generated header, for tests of the units alone: everything small, so that a few rows
// make several tiles, chunks and turns, most of them ragged.
#pragma once

#include <cstdint>

namespace ttfpga {

constexpr int kTokens = 9;
constexpr int kIntents = 5;
constexpr int kSlots = 13;
constexpr float kNormEps = 1e-5f;
constexpr float kSlotLossWeight = 3.0f;
constexpr int kNormWidth = 44;
constexpr int kMaxRows = 27;
constexpr int kEmbedCores = 2;
constexpr int kVocabModes[] = {5, 5};
constexpr int kOperands = 8;

constexpr int kTileRows = 4;
constexpr int kTileLanes = 8;
constexpr int kSumDistance = 3;
constexpr int kSumDepth = 32;
constexpr int kNormLanes = 8;
constexpr int kNonlinearLanes = 4;
constexpr int kUpdateLanes = 4;
constexpr int kMulCycles = 2;
constexpr int kAddCycles = 3;
constexpr int kDivCycles = 9;
constexpr int kSqrtCycles = 9;
constexpr int kMemoryCycles = 1;

static float activation[8 * 4096];
static float weights[16384];
static float cores[16384];
static float extra[16384];
enum Array { k_activation, k_weights, k_cores, k_extra };
#define TTFPGA_ARRAYS(USE) USE(activation) USE(weights) USE(cores) USE(extra)

}  // namespace ttfpga
