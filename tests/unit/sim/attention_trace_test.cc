// Attention traces come back as they were written; every kind of damage is refused with the offset;
// the generator is a function of its seed and makes what its options say.
#include "sim/attention_trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "proto/wire/checksum.h"
#include "sim/attention_generator.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/test_seed.h"
#include "tiering/base/rng.h"

namespace kvtier::sim {
namespace {

using ::kvtier::test_support::IsOk;
using ::kvtier::test_support::StatusIs;
using ::testing::HasSubstr;

AttentionGeometry SmallGeometry() {
  return {.model = "m",
          .provenance = "by hand",
          .planes = 2,
          .block_tokens = 4,
          .prompt_tokens = 11,
          .steps = 3};
}

// Blocks 0 and 1 are whole at first, and 2 from the second step on.
std::string SmallFile() {
  AttentionTraceWriter writer(SmallGeometry());
  writer.Add({0, 1}, {0, 9});
  writer.Add({1}, {0});
  writer.Add({0, 2}, {3, 255});
  writer.Add({}, {});
  writer.Add({0, 1, 2}, {1, 2, 3});
  writer.Add({2}, {7});
  return writer.Finish();
}

// With the checksum that its bytes should have: what is tested is behind it.
std::string Sealed(std::string bytes) {
  bytes.resize(bytes.size() - 8);
  const uint64_t checksum =
      wire::BlockChecksum({reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()});
  for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<char>(checksum >> (8 * i)));
  return bytes;
}

absl::Status ErrorOf(const std::string& bytes) { return DecodeAttentionTrace(bytes, "f").status(); }

AttentionOptions SmallOptions() {
  AttentionOptions options;
  options.geometry = {
      .model = "m", .planes = 3, .block_tokens = 16, .prompt_tokens = 3200, .steps = 40};
  options.seed = 7;
  return options;
}

std::string Generate(const AttentionOptions& options) {
  auto bytes = GenerateAttentionTrace(options, [] { return absl::OkStatus(); });
  EXPECT_THAT(bytes, IsOk());
  return bytes.ok() ? *bytes : std::string();
}

TEST(AttentionTrace, ComesBackAsItWasWritten) {
  ASSERT_OK_AND_ASSIGN(const AttentionTrace trace, DecodeAttentionTrace(SmallFile(), "f"));
  EXPECT_EQ(trace.geometry, SmallGeometry());
  EXPECT_EQ(trace.BlocksOf(1, 0), (std::vector<uint32_t>{0, 2}));
  EXPECT_EQ(trace.MassOf(1, 0), (std::vector<uint8_t>{3, 255}));
  EXPECT_TRUE(trace.BlocksOf(1, 1).empty());
  EXPECT_EQ(trace.BlocksOf(2, 1), (std::vector<uint32_t>{2}));
}

TEST(AttentionGeometry, SaysWhenBlocksAreWhole) {
  const AttentionGeometry geometry = SmallGeometry();
  for (uint32_t block = 0; block < 20; ++block) {
    const uint32_t birth = geometry.BirthOf(block);
    EXPECT_GT(geometry.BlocksAt(birth), block);
    if (birth > 0) {
      EXPECT_LE(geometry.BlocksAt(birth - 1), block);
    }
  }
}

TEST(AttentionTrace, RefusesEveryCut) {
  const std::string bytes = SmallFile();
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_THAT(ErrorOf(bytes.substr(0, size)), StatusIs(absl::StatusCode::kInvalidArgument))
        << size;
  }
  EXPECT_THAT(ErrorOf(bytes + "x"), StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(AttentionTrace, RefusesEveryChangedBit) {
  const std::string bytes = SmallFile();
  for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    std::string changed = bytes;
    changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_THAT(ErrorOf(changed), StatusIs(absl::StatusCode::kInvalidArgument)) << bit;
  }
}

TEST(AttentionTrace, SaysWhatIsWrong) {
  const auto changed = [](size_t at, const std::string& to) {
    return std::string(ErrorOf(Sealed(SmallFile().replace(at, to.size(), to))).message());
  };
  EXPECT_THAT(changed(0, "X"), HasSubstr("f:0: is no attention trace"));
  EXPECT_THAT(changed(8, std::string(1, 2)), HasSubstr("f:12: is of version 2"));
  EXPECT_THAT(changed(12, std::string(4, '\xff')), HasSubstr("planes is 4294967295; 1 to 1024"));
  EXPECT_THAT(changed(16, std::string(4, '\0')), HasSubstr("block_tokens is 0"));
  EXPECT_THAT(changed(20, std::string(4, '\xff')), HasSubstr("steps is 4294967295"));
  EXPECT_THAT(changed(24, std::string(8, '\xff')), HasSubstr("prompt_tokens is"));
  EXPECT_THAT(changed(32, std::string(5, '\xff')), HasSubstr("accesses; the limit is"));
  EXPECT_THAT(changed(32, std::string(1, 100)), HasSubstr("too few for 3 steps"));
  EXPECT_THAT(changed(32, std::string(1, 10)), HasSubstr("and the header says 10"));
  const size_t body = 8 + 4 * 4 + 8 + 8 + 2 + 1 + 2 + 7;
  EXPECT_THAT(changed(body, std::string(1, 3)), HasSubstr("step 0 reads 3 blocks of a plane; 2"));
  EXPECT_THAT(changed(body + 2, std::string(1, 1)),
              HasSubstr("step 0 reads block 2 of a plane; only 2 are whole by then"));
  EXPECT_THAT(changed(body + 1, "\xff\xff\xff\xff\x7f"), HasSubstr("32 bits"));
}

// Both are printed, by `kvtier trace info` for one.
TEST(AttentionTrace, HasTextsThatATerminalCanShow) {
  const auto error_of = [](const std::string& model, const std::string& provenance) {
    AttentionGeometry geometry = SmallGeometry();
    geometry.model = model;
    geometry.provenance = provenance;
    return std::string(CheckGeometry(geometry, "f").message());
  };
  EXPECT_EQ(error_of(std::string(64, 'm'), std::string(1024, 'p')), "");
  EXPECT_THAT(error_of("m\x1b[2J", ""),
              HasSubstr("f: the model's name is \"m\\x1b[2J\"; at most 64"));
  EXPECT_THAT(error_of(std::string(65, 'm'), ""), HasSubstr("at most 64 printable ASCII"));
  EXPECT_THAT(error_of("m", "by\nhand"), HasSubstr("f: the provenance is \"by\\nhand\"; at most"));
  EXPECT_THAT(error_of("m", "\xc2\x9b"), HasSubstr("f: the provenance is"));
  EXPECT_THAT(error_of("m", std::string(1025, 'p')), HasSubstr("at most 1024 printable"));
}

// A header that promises much must not make it allocate much: 2^30 accesses are 5 GiB.
TEST(AttentionTrace, TakesNoMemoryForWhatIsNotThere) {
  std::string bytes = SmallFile();
  bytes.replace(32, 4, std::string("\0\0\0\x3f", 4));
  EXPECT_THAT(ErrorOf(Sealed(bytes)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("too few for")));
}

TEST(AttentionTrace, SurvivesRandomBytes) {
  Rng rng(test_support::TestSeed(1));
  const std::string bytes = SmallFile();
  for (int i = 0; i < 20'000; ++i) {
    std::string changed = bytes;
    for (uint64_t n = 1 + rng.Below(6); n > 0; --n)
      changed[rng.Below(changed.size())] = static_cast<char>(rng.Next());
    const auto trace = DecodeAttentionTrace(Sealed(changed), "f");
    if (!trace.ok()) continue;
    for (uint32_t step = 0; step < trace->geometry.steps; ++step) {
      for (uint32_t plane = 0; plane < trace->geometry.planes; ++plane) {
        const auto blocks = trace->BlocksOf(step, plane);
        ASSERT_TRUE(std::is_sorted(blocks.begin(), blocks.end()));
        ASSERT_TRUE(blocks.empty() || blocks.back() < trace->geometry.BlocksAt(step));
      }
    }
  }
}

TEST(AttentionTrace, IsReadFromFiles) {
  const test_support::TempDir dir;
  const std::string path = dir.path() + "/trace";
  std::ofstream(path, std::ios::binary) << SmallFile();
  EXPECT_TRUE(IsAttentionTrace(path));
  ASSERT_OK_AND_ASSIGN(const AttentionTrace trace, ReadAttentionTrace(path));
  EXPECT_EQ(trace.geometry, SmallGeometry());
  EXPECT_FALSE(IsAttentionTrace(dir.path() + "/none"));
  EXPECT_THAT(ReadAttentionTrace(dir.path() + "/none"), StatusIs(absl::StatusCode::kNotFound));
}

TEST(AttentionGenerator, IsAFunctionOfItsOptions) {
  AttentionOptions options = SmallOptions();
  const std::string bytes = Generate(options);
  EXPECT_EQ(bytes, Generate(options));
  // The same bytes on any machine: a change of them changes what was measured with them.
  EXPECT_EQ(wire::BlockChecksum({reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()}),
            4524638614817051235u);
  options.seed = 8;
  EXPECT_NE(bytes, Generate(options));
}

TEST(AttentionGenerator, ReadsTheShareAskedForWithSinksAndRecentBlocks) {
  ASSERT_OK_AND_ASSIGN(const AttentionTrace trace,
                       DecodeAttentionTrace(Generate(SmallOptions()), "f"));
  EXPECT_THAT(trace.geometry.provenance, HasSubstr("seed 7"));
  for (uint32_t step = 0; step < 40; ++step) {
    for (uint32_t plane = 0; plane < 3; ++plane) {
      const uint32_t whole = trace.geometry.BlocksAt(step);
      const auto blocks = trace.BlocksOf(step, plane);
      EXPECT_EQ(blocks.size(), whole / 10);
      EXPECT_EQ(blocks.front(), 0u) << "the sink";
      for (uint32_t i = 1; i <= 8; ++i) EXPECT_EQ(blocks[blocks.size() - i], whole - i);
      const auto mass = trace.MassOf(step, plane);
      EXPECT_EQ(*std::min_element(mass.begin(), mass.end()), 0) << "the most of the plane";
    }
  }
}

// What is read again in the next step, without sinks and recent blocks, as a share.
double Overlap(const AttentionOptions& options) {
  const auto trace = DecodeAttentionTrace(Generate(options), "f");
  EXPECT_THAT(trace, IsOk());
  uint64_t again = 0, all = 0;
  for (uint32_t step = 1; step < trace->geometry.steps; ++step) {
    const auto before = trace->BlocksOf(step - 1, 0);
    const std::set<uint32_t> known(before.begin(), before.end());
    for (const uint32_t block : trace->BlocksOf(step, 0)) {
      again += known.count(block);
      ++all;
    }
  }
  return static_cast<double>(again) / static_cast<double>(all);
}

TEST(AttentionGenerator, DriftsAsFastAsAsked) {
  AttentionOptions options = SmallOptions();
  options.geometry.planes = 1;
  options.recent_blocks = options.sink_blocks = 0;
  options.persistence_milli = 1000;
  options.noise_milli = 0;
  EXPECT_EQ(Overlap(options), 1) << "nothing moves, and the few new blocks are not among the best";
  options.persistence_milli = 990;
  const double slow = Overlap(options);
  options.persistence_milli = 500;
  const double fast = Overlap(options);
  EXPECT_GT(slow, fast + 0.1);
  EXPECT_GT(fast, 0.2) << "the ranks stay";
}

TEST(AttentionGenerator, RefusesWhatItCannotMake) {
  const auto status_of = [](const AttentionOptions& options) {
    return GenerateAttentionTrace(options, [] { return absl::OkStatus(); }).status();
  };
  AttentionOptions options = SmallOptions();
  options.read_milli = 0;
  EXPECT_THAT(status_of(options), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("read")));
  options = SmallOptions();
  options.persistence_milli = 1001;
  EXPECT_THAT(status_of(options), StatusIs(absl::StatusCode::kInvalidArgument));
  options = SmallOptions();
  options.geometry.steps = 0;
  EXPECT_THAT(status_of(options), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("steps")));
}

}  // namespace
}  // namespace kvtier::sim
