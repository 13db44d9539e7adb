// Machines and models that come with kvtier are read and are what their published numbers say; what
// is wrong in a file or an override is refused with the line and the field.
#include "sim/spec_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "sim/quantity.h"
#include "sim/spec_fields.h"
#include "tests/support/status_matchers.h"

namespace kvtier::sim {
namespace {

using ::kvtier::test_support::IsOk;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr absl::string_view kMachine = R"(name: m
compute: 1TFLOP/s
read: stream
inclusive: false
tier:
  hbm: {kind: hbm, capacity: 1GiB, bandwidth: 100GB/s}
  dram: {kind: dram, capacity: 2GiB, bandwidth: 50GB/s, link: pcie}
link:
  pcie: {to_gpu: 10GB/s, from_gpu: 9GB/s, latency: 1us}
)";

std::string Changed(absl::string_view from, absl::string_view to) {
  EXPECT_THAT(std::string(kMachine), HasSubstr(std::string(from)));
  return absl::StrReplaceAll(kMachine, {{from, to}});
}

std::string ErrorOf(const std::string& yaml) {
  return std::string(ParseMachine(yaml, "f").status().message());
}

TEST(SpecReader, ReadsAllThatComesWithIt) {
  EXPECT_THAT(MachineNames(),
              ElementsAre("h100-pcie5", "h100-sxm", "2xh100-nvlink", "gh200", "arxiv-2508.13231"));
  for (const std::string& name : MachineNames()) {
    const auto machine = ReadMachine(name);
    ASSERT_TRUE(machine.ok()) << machine.status();
    EXPECT_EQ(machine->name, name);
  }
  EXPECT_THAT(ModelNames(),
              ElementsAre("llama-3.1-8b", "llama-3.1-70b", "qwen3-30b-a3b", "deepseek-v2-lite"));
  for (const std::string& name : ModelNames()) {
    const auto model = ReadModel(name);
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ(model->name, name);
  }
}

TEST(SpecReader, HasThePaperMachine) {
  const Machine machine = *ReadMachine("arxiv-2508.13231");
  EXPECT_TRUE(machine.inclusive);
  EXPECT_EQ(machine.read_mode, ReadMode::kInPlace);
  EXPECT_EQ(machine.tiers[0].capacity_bytes, uint64_t{23} << 30);
  EXPECT_EQ(machine.tiers[0].bytes_per_second, 4'900'000'000'000);
  EXPECT_EQ(machine.tiers[1].bytes_per_second, 500'000'000'000);
  EXPECT_EQ(machine.tiers[1].link->to_gpu_bytes_per_second, 450'000'000'000);
  EXPECT_EQ(machine.tiers[1].link->from_gpu_bytes_per_second, 450'000'000'000);
}

// Counted here again from the published sizes: all matrices, two tables of the vocabulary, and the
// norms' vectors.
TEST(SpecReader, HasTheModelsPublishedSizes) {
  const ModelSpec llama = *ReadModel("llama-3.1-8b");
  const uint64_t layer =
      2 * 4096 * 4096 + 2 * 4096 * 1024 + uint64_t{3} * 4096 * 14'336;  // one layer's matrices
  EXPECT_EQ(llama.active_parameters, 32 * layer);
  EXPECT_EQ(llama.weight_bytes,
            2 * (32 * layer + uint64_t{2} * 4096 * 128'256 + (2 * 32 + 1) * 4096));
  EXPECT_EQ(llama.KvBytesPerToken(), 128 << 10);
  EXPECT_EQ(llama.KvBytesPerTokenAndPlane(), 4096);
  EXPECT_EQ(llama.AttentionFlopsPerPair(), 4 * 32 * 4096);

  const ModelSpec large = *ReadModel("llama-3.1-70b");
  EXPECT_EQ(large.KvBytesPerToken(), 320 << 10);
  EXPECT_EQ(large.weight_bytes, 2 * uint64_t{70'553'706'496});
  const ModelSpec experts = *ReadModel("qwen3-30b-a3b");
  EXPECT_EQ(experts.KvBytesPerToken(), 48 * 2 * 4 * 128 * 2);
  EXPECT_EQ(experts.weight_bytes, 2 * uint64_t{30'532'122'624});
  EXPECT_LT(experts.pass_weight_bytes * 10, experts.weight_bytes);
  const ModelSpec latent = *ReadModel("deepseek-v2-lite");
  EXPECT_EQ(latent.KvBytesPerToken(), 27 * 576 * 2);
  EXPECT_EQ(latent.weight_bytes, 2 * uint64_t{15'706'484'224});
}

TEST(ModelSpec, PrefillInPartsComputesWhatAWholeOneDoes) {
  const ModelSpec model = *ReadModel("llama-3.1-8b");
  EXPECT_EQ(model.PrefillFlops(300, 0), model.PrefillFlops(100, 0) + model.PrefillFlops(200, 100));
}

TEST(SpecReader, ReadsAMachine) {
  const auto machine = ParseMachine(kMachine, "f");
  ASSERT_TRUE(machine.ok()) << machine.status();
  EXPECT_EQ(machine->tiers.size(), 2u);
  EXPECT_EQ(machine->tiers[1].name, "dram");
  EXPECT_EQ(machine->tiers[1].link->latency_ns, 1000u);
  EXPECT_FALSE(machine->tiers[0].link.has_value());
}

TEST(SpecReader, RefusesWhatIsWrongInAMachineAndSaysWhere) {
  EXPECT_THAT(ErrorOf(Changed("compute:", "computes:")), HasSubstr("f:2: computes is no field"));
  EXPECT_THAT(ErrorOf(Changed("1TFLOP/s", "-1TFLOP/s")),
              HasSubstr("f:2: compute is \"-1TFLOP/s\"; a rate such as 989.5TFLOP/s from "
                        "1MFLOP/s to 1000PFLOP/s is needed"));
  EXPECT_THAT(ErrorOf(Changed("1TFLOP/s", ".nan")), HasSubstr("f:2: compute is \".nan\""));
  EXPECT_THAT(ErrorOf(Changed("1TFLOP/s", "0TFLOP/s")), HasSubstr("f:2: compute"));
  EXPECT_THAT(ErrorOf(Changed("100GB/s", "inf")), HasSubstr("f:6: tier.hbm.bandwidth"));
  EXPECT_THAT(ErrorOf(Changed("100GB/s", "100GB")), HasSubstr("f:6: tier.hbm.bandwidth"));
  EXPECT_THAT(ErrorOf(Changed("1GiB", "99999999TiB")), HasSubstr("f:6: tier.hbm.capacity"));
  EXPECT_THAT(ErrorOf(Changed("read: stream", "read: both")),
              HasSubstr("f:3: read is \"both\"; in_place or stream is needed"));
  EXPECT_THAT(ErrorOf(Changed("link: pcie", "link: cxl")),
              HasSubstr("tier.dram.link is \"cxl\", and there is no such link"));
  EXPECT_THAT(ErrorOf(Changed(", link: pcie", "")), HasSubstr("link.pcie leads to no tier"));
  EXPECT_THAT(ErrorOf(Changed(", bandwidth: 50GB/s", "")), HasSubstr("tier.dram.bandwidth is 0"));
  EXPECT_THAT(ErrorOf(Changed("kind: dram", "kind: hbm")), HasSubstr("tier.dram: the first tier"));
  EXPECT_THAT(ErrorOf(Changed("to_gpu: 10GB/s, ", "")), HasSubstr("link.pcie.to_gpu is 0"));
  EXPECT_THAT(ErrorOf(Changed("name: m\n", "")), HasSubstr("there is no name"));
  const std::string needed = "; 1 to 64 printable ASCII characters are needed";
  for (const char* name : {R"("\e[2Jm")", R"("\x9b2J")", R"("m\nx")", "größe", R"("\x7f")"}) {
    EXPECT_THAT(ErrorOf(Changed("name: m", absl::StrCat("name: ", name))),
                AllOf(HasSubstr("f:1: name is \""), HasSubstr(needed), Not(HasSubstr("\x1b"))));
  }
  EXPECT_THAT(ErrorOf(Changed("name: m", absl::StrCat("name: ", std::string(65, 'm')))),
              HasSubstr(std::string(64, 'm') + "\"" + needed));
  EXPECT_THAT(ErrorOf(Changed("name: m", "name: \"\"")), HasSubstr("name is \"\"" + needed));
  EXPECT_TRUE(ParseMachine(Changed("name: m", "name: a machine (H100)"), "f").ok());
  EXPECT_THAT(ErrorOf(Changed("  dram:", "  hbm:")), HasSubstr("given twice"));
  EXPECT_THAT(ErrorOf(Changed("  dram:", "  \"\\e[2J\":")), HasSubstr("is no name of a-z"));
  EXPECT_THAT(ErrorOf(Changed("  dram:", "  compute:")), HasSubstr("named compute"));
  EXPECT_THAT(ErrorOf("[1, 2]"), HasSubstr("the file is a list"));
  EXPECT_THAT(ErrorOf(""), HasSubstr("the file is empty"));
  EXPECT_THAT(ErrorOf(std::string(kSpecBytesMax + 1, ' ')), HasSubstr("more than 65536 bytes"));
  EXPECT_THAT(ErrorOf(absl::StrCat(kMachine, "compute: 2TFLOP/s\n")), HasSubstr("given twice"));
}

TEST(SpecReader, RefusesWhatIsWrongInAModel) {
  const auto error_of = [](absl::string_view yaml) {
    return std::string(ParseModel(yaml, "f").status().message());
  };
  EXPECT_THAT(error_of("name: x\nlayers: 1.5\n"), HasSubstr("f:2: layers is \"1.5\""));
  EXPECT_THAT(error_of("name: x\nlayers: 1e3\n"), HasSubstr("f:2: layers is \"1e3\""));
  EXPECT_THAT(error_of("name: \"\\e]0;x\\a\"\nlayers: 1\n"), HasSubstr("f:1: name is \"\\x1b]0;x"));
  EXPECT_THAT(error_of("name: x\nheads: 1\n"), HasSubstr("f:2: heads is no field"));
  EXPECT_THAT(error_of("name: x\nlayers: 1\n"), HasSubstr("query_heads is 0"));
  constexpr absl::string_view kModel =
      "name: x\nlayers: 2\nquery_heads: 4\nkv_heads: 2\nhead_dim: 8\nbytes_per_value: 2\n"
      "score_dim: 8\nvalue_dim: 8\nweight_bytes: 1000\npass_weight_bytes: 100\n"
      "active_parameters: 50\n";
  EXPECT_TRUE(ParseModel(kModel, "f").ok()) << error_of(kModel);
  EXPECT_THAT(error_of(absl::StrReplaceAll(
                  kModel, {{"pass_weight_bytes: 100", "pass_weight_bytes: 1001"}})),
              HasSubstr("pass_weight_bytes is 1001; 1 to 1000 is needed"));
  EXPECT_THAT(error_of(absl::StrReplaceAll(
                  kModel, {{"active_parameters: 50", "active_parameters: 99999999999999"}})),
              HasSubstr("more than 2^62 operations"));
  EXPECT_THAT(error_of(absl::StrCat(kModel, "latent_dim: 8\n")),
              HasSubstr("latent_dim is 8; 0 to 0"));
}

TEST(SpecReader, NamesWhatThereIs) {
  const absl::Status status = ReadMachine("no-such-machine").status();
  EXPECT_TRUE(absl::IsNotFound(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr("gh200"));
  EXPECT_TRUE(absl::IsNotFound(ReadModel("").status()));
}

TEST(Overrides, ChangeOneValueEach) {
  Machine machine = *ReadMachine("h100-pcie5");
  ModelSpec model = *ReadModel("llama-3.1-8b");
  ASSERT_THAT(ApplyOverrides({"link.pcie=50GB/s", "link.pcie.from_gpu=40GB/s", "hbm=40GiB",
                              "tier.dram.bandwidth=200GB/s", "read=in_place",
                              "model.weight_bytes=8GB", "model.pass_weight_bytes=8GB"},
                             machine, model),
              IsOk());
  EXPECT_EQ(machine.tiers[1].link->to_gpu_bytes_per_second, 50'000'000'000);
  EXPECT_EQ(machine.tiers[1].link->from_gpu_bytes_per_second, 40'000'000'000);
  EXPECT_EQ(machine.tiers[0].capacity_bytes, uint64_t{40} << 30);
  EXPECT_EQ(machine.tiers[1].bytes_per_second, 200'000'000'000);
  EXPECT_EQ(machine.read_mode, ReadMode::kInPlace);
  EXPECT_EQ(model.weight_bytes, 8'000'000'000);
}

TEST(Overrides, AreRefusedWithTheirPathAndChangeNothing) {
  Machine machine = *ReadMachine("h100-pcie5");
  ModelSpec model = *ReadModel("llama-3.1-8b");
  const uint64_t capacity = machine.tiers[0].capacity_bytes;
  const auto error_of = [&](const std::string& text) {
    return std::string(ApplyOverrides({"hbm=1GiB", text}, machine, model).message());
  };
  EXPECT_THAT(error_of("link.cxl=1GB/s"), HasSubstr("link.cxl names no link; there are pcie"));
  EXPECT_THAT(error_of("tier.ssd.capacity=1GiB"), HasSubstr("there are hbm, dram"));
  EXPECT_THAT(error_of("link.pcie=nan"), HasSubstr("link.pcie is \"nan\""));
  EXPECT_THAT(error_of("link.pcie=-1GB/s"), HasSubstr("link.pcie is"));
  EXPECT_THAT(error_of("nothing"), HasSubstr("has no ="));
  EXPECT_THAT(error_of("nothing=1"), HasSubstr("is no field"));
  EXPECT_THAT(error_of("model.layers=0"), HasSubstr("layers is 0"));
  EXPECT_THAT(error_of("dram=256"),
              HasSubstr("tier.dram.capacity is \"256\", without a unit; 256GiB is a size, and 256B "
                        "if so few bytes are meant"));
  EXPECT_THAT(error_of("inclusive=yes"), HasSubstr("true or false is needed"));
  EXPECT_EQ(machine.tiers[0].capacity_bytes, capacity);
}

TEST(Overrides, SuggestWhatMayHaveBeenMeant) {
  Machine machine = *ReadMachine("h100-pcie5");
  ModelSpec model = *ReadModel("llama-3.1-8b");
  const auto error_of = [&](const std::string& text) {
    return std::string(ApplyOverrides({text}, machine, model).message());
  };
  EXPECT_THAT(error_of("dramm=1GiB"), EndsWith(": did you mean dram?"));
  EXPECT_THAT(error_of("hmb=1GiB"), EndsWith(": did you mean hbm?"));
  EXPECT_THAT(error_of("tier.drm.capacity=1GiB"), EndsWith(": did you mean tier.dram.capacity?"));
  EXPECT_THAT(error_of("tier.dram.bandwith=1GB/s"), EndsWith("did you mean tier.dram.bandwidth?"));
  EXPECT_THAT(error_of("bandwidth=1GB/s"),
              EndsWith(": did you mean tier.hbm.bandwidth or tier.dram.bandwidth?"));
  EXPECT_THAT(error_of("pcie=1GB/s"), EndsWith(": did you mean link.pcie?"));
  EXPECT_THAT(error_of("link.pcei=1GB/s"), EndsWith(": did you mean link.pcie?"));
  EXPECT_THAT(error_of("link.pcie.to_gpuu=1GB/s"), EndsWith(": did you mean link.pcie.to_gpu?"));
  EXPECT_THAT(error_of("model.layer=3"), EndsWith(": did you mean model.layers?"));
  EXPECT_THAT(error_of("modle.head_dim=3"), EndsWith(": did you mean model.head_dim?"));
  EXPECT_THAT(error_of("weigth_bytes=8GB"), EndsWith("did you mean model.weight_bytes?"));
  EXPECT_THAT(error_of("Compute=1TFLOP/s"), EndsWith(": did you mean compute?"));
  // Nothing of the kind, or a field that there is, with another fault.
  for (const char* text : {"nothing=1", "=1", "x=1", "tier..=1", "model.layers=x", "dram=fast",
                           "link.pcie=nan", "\x1b[2J=1"}) {
    EXPECT_THAT(error_of(text), AllOf(Not(IsEmpty()), Not(HasSubstr("did you mean")))) << text;
  }
  EXPECT_FALSE(ApplyOverrides({std::string(100'000, 'd') + "=1"}, machine, model).ok());
}

TEST(Quantity, SaysWhichUnitsThereAre) {
  const auto error_of = [](const char* text, Unit unit) {
    return std::string(ParseQuantity(text, unit, 1, uint64_t{1} << 50).status().message());
  };
  for (const Unit unit : {Unit::kBytes, Unit::kCapacity}) {
    EXPECT_THAT(error_of("900KB", unit),
                EndsWith("is needed; units are B, kB, MB, GB, TB, PB and KiB, MiB, GiB, TiB, PiB"));
  }
  EXPECT_THAT(error_of("50Gbit/s", Unit::kBytesPerSecond),
              EndsWith("; units are B/s, kB/s, MB/s, GB/s, TB/s, PB/s and KiB/s to PiB/s"));
  EXPECT_THAT(error_of("50TFLOPS", Unit::kFlopsPerSecond), EndsWith("TFLOP/s and PFLOP/s"));
  EXPECT_THAT(error_of("5min", Unit::kTime), EndsWith("; units are ns, us, ms and s"));
  for (const char* text : {"99PiB", "0", "fast", ""})
    EXPECT_THAT(error_of(text, Unit::kCapacity), EndsWith("is needed")) << text;
  EXPECT_THAT(error_of("5GB", Unit::kNone), EndsWith("is needed"));
}

TEST(Quantity, IsExactAndRoundedUp) {
  const uint64_t max = ~uint64_t{0};
  EXPECT_EQ(*ParseQuantity("1.5GiB", Unit::kBytes, 0, max), uint64_t{3} << 29);
  EXPECT_EQ(*ParseQuantity("512", Unit::kBytes, 0, max), 512u);
  EXPECT_EQ(*ParseQuantity("1048576", Unit::kCapacity, 1, max), 1u << 20);
  EXPECT_EQ(*ParseQuantity("512B", Unit::kCapacity, 1, max), 512u);
  EXPECT_FALSE(ParseQuantity("1048575", Unit::kCapacity, 1, max).ok());
  EXPECT_FALSE(ParseQuantity("80.5", Unit::kCapacity, 1, max).ok());
  EXPECT_EQ(*ParseQuantity("63.02GB/s", Unit::kBytesPerSecond, 0, max), 63'020'000'000u);
  EXPECT_EQ(*ParseQuantity("0.3B", Unit::kBytes, 0, max), 1u);
  EXPECT_EQ(*ParseQuantity("1.5us", Unit::kTime, 0, max), 1500u);
  EXPECT_EQ(*ParseQuantity("2 TB/s", Unit::kBytesPerSecond, 0, max), 2'000'000'000'000u);
  EXPECT_EQ(*ParseQuantity("9223372036854775807", Unit::kNone, 0, max), max >> 1);
  for (const char* text : {"", "GB", ".5GB", "5.GB", "1.2.3GB", "1e3", "+1", " 1", "1gb", "1GB ",
                           "0x10", "18446744073709551616", "99999999999999999999", "1kkB"}) {
    EXPECT_FALSE(ParseQuantity(text, Unit::kBytes, 0, max).ok()) << text;
    EXPECT_FALSE(ParseQuantity(text, Unit::kCapacity, 0, max).ok()) << text;
  }
}

}  // namespace
}  // namespace kvtier::sim
