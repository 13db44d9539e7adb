// Proves that the safetensors reader gives back what a file holds, and that no damaged or hostile
// file gets past it: each defect is written into an otherwise good file, and the error must name
// the tensor, number and limit.

#include "client/examples/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <iostream>

#include "tests/unit/examples/safetensors_bytes.h"
#include "tiering/base/rng.h"

namespace kvtier::examples {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::map<std::string, TestTensor> TwoTensors() {
  return {{"a", {"F32", {2, 3}, FloatBytes({1, 2, 3, 4, 5, 6})}},
          {"b", {"BF16", {2}, std::string("\x80\x3f\x00\xc0", 4)}}};
}

std::string ErrorOf(const std::string& file) {
  const auto parsed = ParseSafetensors(std::string_view(file));
  EXPECT_TRUE(absl::IsInvalidArgument(parsed.status())) << parsed.status();
  return std::string(parsed.status().message());
}

std::string OneTensor(const std::string& entry, const std::string& data) {
  return ErrorOf(WithHeader(absl::StrCat("{\"w\":", entry, "}"), data));
}

TEST(SafetensorsTest, ReadsTensorsOfAGoodFile) {
  // One more byte in front makes every tensor unaligned.
  std::string file = "x" + WriteSafetensors(TwoTensors());
  const auto parsed = ParseSafetensors(std::string_view(file).substr(1));
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  ASSERT_EQ(parsed->size(), 2u);
  EXPECT_EQ(parsed->at("a").type, TensorType::kF32);
  EXPECT_THAT(parsed->at("a").shape, ElementsAre(2, 3));
  EXPECT_THAT(*TensorToFloats(parsed->at("a"), {2, 3}, "a"), ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_THAT(*TensorToFloats(parsed->at("b"), {2}, "b"), ElementsAre(1.0f, -2.0f));
}

TEST(SafetensorsTest, ReadsHalfFloats) {
  // 1, -2, the smallest subnormal, the largest number, infinity, a NaN.
  const std::string bytes("\x00\x3c\x00\xc0\x01\x00\xff\x7b\x00\x7c\x01\x7e", 12);
  const std::string file = WriteSafetensors({{"h", {"F16", {6}, bytes}}});
  const auto parsed = ParseSafetensors(std::string_view(file));
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  const auto floats = TensorToFloats(parsed->at("h"), {6}, "h");
  ASSERT_TRUE(floats.ok());
  EXPECT_EQ((*floats)[0], 1.0f);
  EXPECT_EQ((*floats)[1], -2.0f);
  EXPECT_EQ((*floats)[2], std::ldexp(1.0f, -24));
  EXPECT_EQ((*floats)[3], 65504.0f);
  EXPECT_TRUE(std::isinf((*floats)[4]));
  EXPECT_TRUE(std::isnan((*floats)[5]));
}

TEST(SafetensorsTest, AcceptsEmptyTensorsAndScalars) {
  const std::string file =
      WriteSafetensors({{"e", {"F32", {0, 7}, ""}}, {"s", {"F32", {}, FloatBytes({3})}}});
  const auto parsed = ParseSafetensors(std::string_view(file));
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_TRUE(parsed->at("e").bytes.empty());
  EXPECT_THAT(*TensorToFloats(parsed->at("s"), {}, "s"), ElementsAre(3));
}

TEST(SafetensorsTest, EveryTruncationIsAnError) {
  const std::string file = WriteSafetensors(TwoTensors());
  for (size_t size = 0; size < file.size(); ++size) {
    // A copy of its own, so that AddressSanitizer sees a read past the end.
    const std::string cut(file.data(), size);
    EXPECT_TRUE(absl::IsInvalidArgument(ParseSafetensors(std::string_view(cut)).status())) << size;
  }
}

TEST(SafetensorsTest, HeaderLengthIsCheckedBeforeUse) {
  EXPECT_THAT(ErrorOf(LittleEndian64(~uint64_t{0}) + "{}"),
              HasSubstr("18446744073709551615 bytes; at most 16777216"));
  EXPECT_THAT(ErrorOf(LittleEndian64(3) + "{}"), HasSubstr("3 bytes, but only 2 follow"));
  EXPECT_THAT(ErrorOf("abc"), HasSubstr("3 bytes"));
}

TEST(SafetensorsTest, HeaderMustBeOneObjectWithUniqueNames) {
  EXPECT_THAT(ErrorOf(WithHeader("[]", "")), HasSubstr("not a JSON object"));
  EXPECT_THAT(ErrorOf(WithHeader("{\"w\":", "")), HasSubstr("not a JSON object"));
  EXPECT_THAT(ErrorOf(WithHeader("\xff\xfe", "")), HasSubstr("not a JSON object"));
  const std::string entry = R"({"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
  EXPECT_THAT(ErrorOf(WithHeader(absl::StrCat("{\"w\":", entry, ",\"w\":", entry, "}"), "x")),
              HasSubstr("\"w\": named twice"));
}

TEST(SafetensorsTest, DeepNestingIsRefusedWithoutRecursion) {
  EXPECT_THAT(ErrorOf(WithHeader(std::string(1 << 20, '['), "")), HasSubstr("not a JSON object"));
  const std::string deep = std::string(1 << 18, '[') + std::string(1 << 18, ']');
  EXPECT_THAT(OneTensor(deep, ""), HasSubstr("not a JSON object"));
}

TEST(SafetensorsTest, NumberOfTensorsIsLimited) {
  std::vector<std::string> entries;
  for (size_t i = 0; i < kSafetensorsTensorsMax + 2; ++i) {
    entries.push_back(
        absl::StrCat("\"", i, R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})"));
  }
  EXPECT_THAT(ErrorOf(WithHeader(absl::StrCat("{", absl::StrJoin(entries, ","), "}"), "")),
              HasSubstr("more than 65536 tensors"));
}

TEST(SafetensorsTest, TypesAndFieldsAreChecked) {
  EXPECT_THAT(OneTensor(R"({"dtype":"F12","shape":[1],"data_offsets":[0,4]})", "1234"),
              HasSubstr("\"w\": dtype \"F12\" is not known"));
  EXPECT_THAT(OneTensor(R"({"shape":[1],"data_offsets":[0,4]})", "1234"),
              HasSubstr("dtype is missing"));
  EXPECT_THAT(OneTensor(R"({"dtype":"F32","data_offsets":[0,4]})", "1234"),
              HasSubstr("shape is missing"));
  EXPECT_THAT(OneTensor(R"({"dtype":"F32","shape":[-1],"data_offsets":[0,4]})", "1234"),
              HasSubstr("shape[0] is not a whole number"));
  EXPECT_THAT(OneTensor(R"({"dtype":"F32","shape":[1.5],"data_offsets":[0,4]})", "1234"),
              HasSubstr("shape[0] is not a whole number"));
  EXPECT_THAT(
      OneTensor(R"({"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]})", "1234"),
      HasSubstr("shape has 9 numbers; at most 8"));
  EXPECT_THAT(OneTensor(R"({"dtype":"F32","shape":[1],"data_offsets":[0]})", "1234"),
              HasSubstr("data_offsets has 1 numbers; expected 2"));
  EXPECT_THAT(OneTensor("7", ""), HasSubstr("not a JSON object"));
}

TEST(SafetensorsTest, ShapesAndRangesMustAgreeAndStayInside) {
  EXPECT_THAT(OneTensor(R"({"dtype":"F32","shape":[2],"data_offsets":[0,4]})", "1234"),
              HasSubstr("is 8 bytes but data_offsets span 4"));
  EXPECT_THAT(OneTensor(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})", "1234"),
              HasSubstr("0 to 8 leave the 4 bytes"));
  EXPECT_THAT(OneTensor(R"({"dtype":"F32","shape":[1],"data_offsets":[4,0]})", "1234"),
              HasSubstr("4 to 0 leave"));
  EXPECT_THAT(
      OneTensor(R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]})", ""),
      HasSubstr("more than 2^64 bytes"));
  EXPECT_THAT(
      OneTensor(
          R"({"dtype":"F32","shape":[1],"data_offsets":[18446744073709551612,18446744073709551615]})",
          "1234"),
      HasSubstr("leave the 4 bytes"));
}

TEST(SafetensorsTest, RangesMustCoverTheDataOnce) {
  const auto two = [](const char* a, const char* b, const std::string& data) {
    return ErrorOf(
        WithHeader(absl::StrCat(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)", a,
                                R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)", b, "}}"),
                   data));
  };
  EXPECT_THAT(two("[0,4]", "[2,6]", "123456"),
              HasSubstr("\"b\": starts at byte 2, inside a tensor that ends at 4"));
  EXPECT_THAT(two("[0,4]", "[0,4]", "1234"), HasSubstr("starts at byte 0, inside"));
  EXPECT_THAT(two("[0,4]", "[5,9]", "123456789"), HasSubstr("bytes 4 to 5 belong to no tensor"));
  EXPECT_THAT(two("[0,4]", "[4,8]", "123456789"), HasSubstr("end at byte 8 of 9"));
}

TEST(SafetensorsTest, WeightsNeedTheRightTypeAndShape) {
  const std::string file =
      WriteSafetensors({{"i", {"I32", {1}, "1234"}}, {"w", {"F32", {2}, "12345678"}}});
  const auto parsed = ParseSafetensors(std::string_view(file));
  ASSERT_TRUE(parsed.ok());
  EXPECT_THAT(std::string(TensorToFloats(parsed->at("i"), {1}, "i").status().message()),
              HasSubstr("\"i\": dtype is I32; weights must be F32, BF16 or F16"));
  EXPECT_THAT(std::string(TensorToFloats(parsed->at("w"), {1, 2}, "w").status().message()),
              HasSubstr("\"w\": shape is [2]; the configuration needs [1, 2]"));
}

TEST(SafetensorsTest, DamagedFilesNeverReachOutside) {
  const char* given = std::getenv("KVTIER_TEST_SEED");
  const uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : 20240607;
  std::cout << "KVTIER_TEST_SEED=" << seed << "\n";
  Rng rng(seed);
  const std::string good = WriteSafetensors(TwoTensors());
  size_t refused = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string file = good;
    const size_t changes = 1 + rng.Below(3);
    for (size_t i = 0; i < changes; ++i)
      file[rng.Below(file.size())] = static_cast<char>(rng.Below(256));
    file.resize(rng.OneIn(4) ? rng.Below(file.size() + 1) : file.size());
    const auto parsed = ParseSafetensors(std::string_view(file));
    if (!parsed.ok()) {
      ++refused;
      continue;
    }
    // What was accepted lies inside the file.
    for (const auto& [name, tensor] : *parsed) {
      EXPECT_GE(reinterpret_cast<const char*>(tensor.bytes.data()), file.data());
      EXPECT_LE(reinterpret_cast<const char*>(tensor.bytes.data()) + tensor.bytes.size(),
                file.data() + file.size());
      TensorToFloats(tensor, tensor.shape, name).status().IgnoreError();
    }
  }
  EXPECT_GT(refused, 1000u);
}

}  // namespace
}  // namespace kvtier::examples
