// Proves that configurations load with the documented defaults, that every wrong one is refused
// with line, field and limit, that hostile text is refused in bounded time, and that what
// --print-config writes loads again. Works on text only; a file is needed for one case.
#include "daemon/config_loader.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "daemon/config_check.h"
#include "daemon/config_limits.h"
#include "daemon/config_units.h"
#include "proto/yaml/config_tree.h"
#include "tests/support/test_seed.h"
#include "tiering/base/rng.h"

namespace kvtier {
namespace {

using ::google::protobuf::util::MessageDifferencer;
using ::testing::HasSubstr;
using ::testing::StartsWith;

v1::Config Loaded(const std::string& yaml) {
  absl::StatusOr<v1::Config> config = LoadConfig(yaml, "k.yaml");
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? *config : v1::Config();
}

TEST(ConfigLoader, DefaultsAreThoseOfTheTable) {
  const v1::Config config = Loaded("");
  EXPECT_EQ(config.memory().segment_bytes(), 64u << 20);
  EXPECT_EQ(config.memory().reserve_bytes(), 1u << 30);
  EXPECT_TRUE(config.memory().huge_pages());
  ASSERT_EQ(config.pools_size(), 2);
  EXPECT_EQ(config.pools(0).name(), "hbm:0");
  EXPECT_EQ(config.pools(1).kind(), "dram");
  EXPECT_EQ(config.pools(1).numa_node(), -1);
  ASSERT_EQ(config.tenants_size(), 1);
  EXPECT_EQ(config.tenants(0).name(), "default");
  EXPECT_THAT(config.tenants(0).uids(), ::testing::ElementsAre(getuid()));
  EXPECT_TRUE(config.tenants(0).admin());
  EXPECT_EQ(config.listen().socket_mode(), 0600u);
  EXPECT_EQ(config.policy().name(), "lru");
  EXPECT_EQ(config.limits().leases_max(), 262144u);
  EXPECT_DOUBLE_EQ(config.limits().retired_share_max(), 0.05);
  EXPECT_EQ(config.log().format(), "text");
}

TEST(ConfigLoader, ReadsUnitsAndEveryKindOfField) {
  const v1::Config config = Loaded(R"(
listen: {socket: /tmp/x.sock, socket_mode: 0640, http: "127.0.0.1:9400"}
memory:
  segment_bytes: 2MiB
  reserve_bytes: 0
  huge_pages: false
pools:
  - {name: "dram:3", kind: dram, budget_bytes: 3 GiB, numa_node: 3}
tenants:
  - name: a
    uids: [1, 2]
    salt: "0123"
    quota_bytes: {"dram:3": 1GiB}
policy: {name: static, static_share: [1.0]}
limits: {session_timeout_ms: 500ms, lease_ttl_ms: 2m, lease_ttl_max_ms: 1h, retired_share_max: 0.25}
)");
  EXPECT_EQ(config.listen().socket_mode(), 0640u);
  EXPECT_EQ(config.memory().segment_bytes(), 2u << 20);
  EXPECT_EQ(config.memory().reserve_bytes(), 0u);
  EXPECT_FALSE(config.memory().huge_pages());
  EXPECT_EQ(config.pools(0).budget_bytes(), 3ull << 30);
  EXPECT_EQ(config.tenants(0).quota_bytes().at("dram:3"), 1ull << 30);
  EXPECT_EQ(config.tenants(0).salt(), "0123");
  EXPECT_EQ(config.limits().session_timeout_ms(), 500u);
  EXPECT_EQ(config.limits().lease_ttl_ms(), 120'000u);
  EXPECT_DOUBLE_EQ(config.limits().retired_share_max(), 0.25);
}

TEST(ConfigLoader, TenantsOfOtherUsersOpenTheSocket) {
  const std::string tenants = absl::StrCat("tenants: [{name: a, uids: [", getuid() + 1, "]}]");
  EXPECT_EQ(Loaded(tenants).listen().socket_mode(), 0666u);
  EXPECT_EQ(Loaded(tenants + "\nlisten: {socket_mode: 0600}").listen().socket_mode(), 0600u);
}

struct BadConfig {
  const char* yaml;
  const char* error;  // part of the message, from the line on
};

class BadConfigTest : public ::testing::TestWithParam<BadConfig> {};

TEST_P(BadConfigTest, NamesLineFieldAndLimit) {
  const absl::StatusOr<v1::Config> config = LoadConfig(GetParam().yaml, "k.yaml");
  ASSERT_FALSE(config.ok()) << GetParam().yaml;
  EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(config.status().message()), HasSubstr(GetParam().error))
      << GetParam().yaml;
}

constexpr char kPool[] = "pools: [{name: \"dram:0\", kind: dram, budget_bytes: 1GiB}]\n";

INSTANTIATE_TEST_SUITE_P(
    Table, BadConfigTest,
    ::testing::Values(
        BadConfig{"memory:\n  segment_byte: 1MiB",
                  "k.yaml:2: memory.segment_byte: unknown field; known are segment_bytes"},
        BadConfig{"nonsense: 1", "k.yaml:1: nonsense: unknown field; known are listen"},
        BadConfig{"\n\nmemory: 5", "k.yaml:3: memory: must be a map of fields"},
        BadConfig{"- 1", "k.yaml:1: the configuration: must be a map of fields"},
        BadConfig{
            "memory:\n  segment_bytes: 1KiB",
            "k.yaml:2: memory.segment_bytes: `1KiB` is out of range (allowed: 64KiB to 16GiB)"},
        BadConfig{"memory: {segment_bytes: 17GiB}", "allowed: 64KiB to 16GiB"},
        BadConfig{"memory: {segment_bytes: 5MB}",
                  "k.yaml:1: memory.segment_bytes: `5MB` is not a size"},
        BadConfig{"memory: {segment_bytes: -1}", "`-1` is not a size"},
        BadConfig{"memory: {segment_bytes: 99999999999999999999999}", "is not a size"},
        BadConfig{"memory: {segment_bytes: 16777215TiB}", "is not a size"},
        BadConfig{"memory: {segment_bytes: 65537}",
                  "k.yaml:1: memory.segment_bytes: 65537 bytes are not a multiple of 4096"},
        BadConfig{"memory: {huge_pages: yes}",
                  "memory.huge_pages: `yes` is neither true nor false"},
        BadConfig{"memory: {copy_threads: 0}",
                  "memory.copy_threads: `0` is out of range (allowed: 1 to 64)"},
        BadConfig{"memory: {copy_threads: 1.5}",
                  "memory.copy_threads: `1.5` is not a whole number"},
        BadConfig{"memory: {copy_threads: \"2\"}", "is not a whole number"},
        BadConfig{"memory: {copy_threads: [2]}",
                  "memory.copy_threads: must be one value (allowed: 1 to 64)"},
        BadConfig{"memory: {copy_threads: }", "memory.copy_threads: has no value"},
        BadConfig{"listen:\n  socket_mode: 0888",
                  "k.yaml:2: listen.socket_mode: `0888` is not an octal number"},
        BadConfig{"listen: {socket_mode: 01000}",
                  "`01000` is out of range (allowed: 0000 to 0777)"},
        BadConfig{"listen: {http: \"localhost:80\"}",
                  "k.yaml:1: listen.http: `localhost` is not an IPv4 address"},
        BadConfig{"listen: {http: \"127.0.0.1\"}", "is not ADDRESS:PORT"},
        BadConfig{"listen: {http: \"127.0.0.1:65536\"}", "is not ADDRESS:PORT"},
        BadConfig{"pools: []", "k.yaml:1: pools: has 0 entries (allowed: 1 to 15 entries)"},
        BadConfig{"pools:\n  - {name: \"dram:0\", kind: tape, budget_bytes: 1GiB}",
                  "k.yaml:2: pools[0].kind: `tape` is not known (allowed: hbm or dram)"},
        BadConfig{"pools:\n  - {kind: dram, budget_bytes: 1GiB}",
                  "k.yaml:2: pools[0].name: is required"},
        BadConfig{"pools:\n  - {name: \"dram:0\", budget_bytes: 1GiB}",
                  "k.yaml:2: pools[0].kind: is required"},
        BadConfig{"pools:\n  - {name: \"ram:0\", kind: dram, budget_bytes: 1GiB}",
                  "k.yaml:2: pools[0].name: `ram:0` is not `dram:` and a number"},
        BadConfig{"pools:\n  - {name: \"dram:00\", kind: dram, budget_bytes: 1GiB}",
                  "is not `dram:` and a number"},
        BadConfig{"pools:\n  - name: \"dram:0\"\n    kind: dram",
                  "k.yaml:2: pools[0].budget_bytes: is required: less than one segment "
                  "(memory.segment_bytes is 64MiB)"},
        BadConfig{"pools:\n  - name: \"dram:0\"\n    kind: dram\n    budget_bytes: 1MiB",
                  "k.yaml:4: pools[0].budget_bytes: 1MiB: less than one segment "
                  "(memory.segment_bytes is 64MiB)"},
        BadConfig{
            "memory: {segment_bytes: 64KiB}\npools:\n  - name: \"dram:0\"\n    kind: dram\n    "
            "budget_bytes: 2GiB",
            "k.yaml:5: pools[0].budget_bytes: 2GiB are 32768 segments of 64KiB; at most 16384"},
        BadConfig{"pools:\n  - {name: \"dram:0\", kind: dram, budget_bytes: 1GiB}\n"
                  "  - {name: \"dram:0\", kind: dram, budget_bytes: 1GiB}",
                  "k.yaml:3: pools[1].name: `dram:0` is the name of pools[0] as well"},
        BadConfig{"pools:\n  - {name: \"dram:0\", kind: dram, budget_bytes: 1GiB, numa_node: -2}",
                  "pools[0].numa_node: `-2` is out of range (allowed: -1 to 1023)"},
        BadConfig{"tenants: [{name: a}]", "tenants[0].uids: is required"},
        BadConfig{"tenants: [{uids: [1]}]", "tenants[0].name: is required"},
        BadConfig{"tenants: [{name: \"a\\nb\", uids: [1]}]",
                  "k.yaml:1: tenants[0].name: has the byte 0x0a; printable ASCII is allowed, "
                  "without quotes and backslashes"},
        BadConfig{"tenants: [{name: \"ü\", uids: [1]}]", "has the byte 0xc3"},
        BadConfig{"tenants: [{name: \"a\\\\\", uids: [1]}]", "has the byte 0x5c"},
        BadConfig{"tenants: [{name: \"it's\", uids: [1]}]", "has the byte 0x27"},
        BadConfig{"tenants:\n  - {name: a, uids: [1]}\n  - {name: a, uids: [2]}",
                  "k.yaml:3: tenants[1].name: `a` is the name of tenants[0] as well"},
        BadConfig{"tenants:\n  - {name: a, uids: [1]}\n  - {name: b, uids: [3, 1]}",
                  "k.yaml:3: tenants[1].uids[1]: uid 1 belongs to tenant `a` already"},
        BadConfig{"tenants: [{name: a, uids: [4294967295]}]",
                  "is out of range (allowed: 0 to 4294967294)"},
        BadConfig{"tenants:\n  - name: a\n    uids: [1]\n    quota_bytes:\n      \"hbm:7\": 1GiB",
                  "k.yaml:5: tenants[0].quota_bytes.hbm:7: there is no pool of this name"},
        BadConfig{"tenants:\n  - name: a\n    uids: [1]\n    quota_bytes:\n      \"hbm:0\": 1MiB",
                  "k.yaml:5: tenants[0].quota_bytes.hbm:0: 1MiB: less than one segment "
                  "(memory.segment_bytes is 64MiB)"},
        BadConfig{"tenants:\n  - {name: a, uids: [1], quota_bytes: {\"dram:0\": 100MiB}}",
                  "tenants[0].quota_bytes.dram:0: 100MiB: not a whole number of segments "
                  "(memory.segment_bytes is 64MiB)"},
        BadConfig{"tenants:\n  - {name: a, uids: [1], quota_bytes: {\"dram:0\": 0}}",
                  "`0` is out of range (allowed: 64KiB to 64TiB)"},
        BadConfig{"limits: {blocks_max: 8191}",
                  "limits.blocks_max: `8191` is out of range (allowed: 8192 to 4294967294)"},
        BadConfig{"limits: {leased_chunks_max: 0}",
                  "limits.leased_chunks_max: `0` is out of range (allowed: 1 to 268435456)"},
        BadConfig{"policy: {name: best}",
                  "policy.name: `best` is not known (allowed: lru or lfu or s3fifo or static)"},
        BadConfig{"policy:\n  name: static", "policy.static_share: has 0 entries for 2 pools"},
        BadConfig{"policy:\n  name: static\n  static_share: [0.5, 0.6]",
                  "k.yaml:3: policy.static_share: sums to 1.1, not to 1"},
        BadConfig{"policy: {static_share: [0.5, 0.5]}", "policy.static_share: is of policy static"},
        BadConfig{"policy: {name: static, static_share: [nan, 1]}",
                  "policy.static_share[0]: `nan` is not a number"},
        BadConfig{"policy: {name: static, static_share: [-1, 2]}",
                  "policy.static_share[0]: `-1` is out of range (allowed: 0 to 1)"},
        BadConfig{"limits:\n  lease_ttl_ms: 11m",
                  "k.yaml:2: limits.lease_ttl_ms: 11m is more than limits.lease_ttl_max_ms, which "
                  "is 10m"},
        BadConfig{"limits: {session_timeout_ms: 99ms}",
                  "`99ms` is out of range (allowed: 100ms to 1h)"},
        BadConfig{"limits: {session_timeout_ms: 5 minutes}", "is not a time"},
        BadConfig{"limits: {retired_share_max: 0.9}",
                  "`0.9` is out of range (allowed: 0.001 to 0.5)"},
        BadConfig{"limits: {rpc_threads_max: 8}",
                  "limits.watch_streams_max: 16 and 4 threads for other calls are more than "
                  "limits.rpc_threads_max"},
        BadConfig{
            "log: {level: loud}",
            "log.level: `loud` is not known (allowed: trace or debug or info or warn or error)"},
        BadConfig{"memory: {}\nlog: {}\nmemory: {}",
                  "k.yaml:3: memory: is given twice, first on line 1"},
        BadConfig{"log: {}\npools:\n- {name: \"dram:0\", name: x}",
                  "k.yaml:3: pools[0].name: is given twice, first on line 3"},
        BadConfig{"a: &x 1\nb: *x", "k.yaml:1: a: anchors (&name) are not supported"},
        BadConfig{"pools:\n- {name: \"dram:0\"}\n- {kind: &x dram}",
                  "k.yaml:3: pools[1].kind: anchors (&name) are not supported"},
        BadConfig{"pools: [1, &p 2]", "k.yaml:1: pools[1]: anchors (&name) are not supported"},
        BadConfig{"memory: !!set {}", "k.yaml:1: memory: tags ("},
        BadConfig{"? [a]\n: b", "a key must be a plain word"},
        BadConfig{"memory: {\n", "not valid YAML"},
        BadConfig{"a: b: c", "k.yaml:1: not valid YAML"},
        BadConfig{"log: {}\n---\nlog: {}", "a second document; one is expected"}));

TEST(ConfigLoader, HostileTextIsRefusedAndNeverCrashes) {
  EXPECT_THAT(LoadConfig(std::string(kConfigBytesMax + 1, ' '), "k").status().message(),
              HasSubstr("has 1048577 bytes; at most 1048576 are read"));
  EXPECT_FALSE(LoadConfig(std::string(500'000, '['), "k").ok());
  EXPECT_FALSE(LoadConfig(std::string(500'000, '{'), "k").ok());
  std::string nested;
  for (int i = 0; i < 400; ++i)
    absl::StrAppend(&nested, std::string(static_cast<size_t>(i), ' '), "a:\n");
  EXPECT_THAT(LoadConfig(nested, "k").status().message(), HasSubstr("nested more than 16 deep"));
  std::string wide = "pools: [";
  for (int i = 0; i < 100'000; ++i) wide += "1,";
  EXPECT_THAT(LoadConfig(wide + "]", "k").status().message(), HasSubstr("more than 65536 values"));
  std::string keys;
  for (int i = 0; i < 50'000; ++i) absl::StrAppend(&keys, "k", i, ": 1\n");
  EXPECT_THAT(LoadConfig(keys, "k").status().message(), HasSubstr("more than 256 keys"));
  EXPECT_FALSE(LoadConfig(std::string("log: {level: \"a\0b\"}", 19), "k").ok());
  EXPECT_FALSE(LoadConfig(std::string("\xff\xfe{\0x\0", 6), "k").ok());  // UTF-16
}

TEST(ConfigLoader, MutatedTextNeverCrashes) {
  Rng rng(test_support::TestSeed(20260101));
  const std::string base = ConfigToYaml(Loaded(kPool));
  int refused = 0;
  for (int round = 0; round < 500; ++round) {
    std::string text = base;
    for (uint64_t edits = 1 + rng.Below(4); edits > 0; --edits) {
      const size_t at = rng.Below(text.size());
      switch (rng.Below(3)) {
        case 0:
          text[at] = static_cast<char>(rng.Below(256));
          break;
        case 1:
          text.erase(at, rng.Below(8));
          break;
        default:
          text.insert(at, 1 + rng.Below(4), "{[:,-&*!\"'\n \t0%|>"[rng.Below(18)]);
          break;
      }
    }
    refused += LoadConfig(text, "k").ok() ? 0 : 1;
  }
  EXPECT_GT(refused, 50);
}

TEST(ConfigLoader, PrintedConfigurationLoadsAgain) {
  for (const std::string& yaml :
       {std::string(), std::string(kPool) +
                           "tenants: [{name: \"a: b #\", uids: [7], salt: \"quo\\\"te\\\\ \\n ü\", "
                           "quota_bytes: {\"dram:0\": 192MiB}}]\n"
                           "policy: {name: static, static_share: [1]}\n"
                           "limits: {retired_share_max: 0.1, lease_ttl_ms: 1500}"}) {
    const v1::Config first = Loaded(yaml);
    const std::string printed = ConfigToYaml(first);
    EXPECT_TRUE(MessageDifferencer::Equals(first, Loaded(printed))) << printed;
  }
}

std::string OverrideError(const std::string& override_text) {
  const std::vector<std::string> set = {override_text};
  return std::string(LoadConfig("", "k", set).status().message());
}

TEST(ConfigLoader, OverridesComeAfterTheFile) {
  const std::vector<std::string> set = {
      "limits.leases_max=7", "listen.socket=/tmp/other",
      "pools=[{name: 'dram:1', kind: dram, budget_bytes: 64MiB}]"};
  const auto config = LoadConfig("limits: {leases_max: 5, models_max: 3}", "k.yaml", set);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->limits().leases_max(), 7u);
  EXPECT_EQ(config->limits().models_max(), 3u);
  EXPECT_EQ(config->pools(0).name(), "dram:1");
  EXPECT_THAT(OverrideError("limits.leases_max=0"),
              StartsWith("--set: limits.leases_max: `0` is out of range"));
  EXPECT_THAT(OverrideError("limits.lease_ttl_ms=11m"),
              StartsWith("--set: limits.lease_ttl_ms: 11m is more than"));
  EXPECT_THAT(OverrideError("limits.foo=1"),
              StartsWith("--set: limits.foo: unknown field; known are"));
  EXPECT_THAT(OverrideError("log={level: info, level: warn}"),
              StartsWith("--set: log.level: is given twice"));
  EXPECT_THAT(OverrideError("log=\"x"), StartsWith("--set: log: not valid YAML"));
  EXPECT_EQ(OverrideError("pools[0].budget_bytes=1GiB"),
            "--set: pools[0].budget_bytes: a list is replaced as a whole: --set 'pools=[...]'");
  EXPECT_THAT(OverrideError("nothing"), HasSubstr("expected path.of.field=value"));
}

TEST(ConfigLoader, HiddenSaltsAreLeftOut) {
  const v1::Config config = Loaded(
      "tenants: [{name: a, uids: [7], salt: \"secret\", admin: true}, {name: b, uids: [8]}]");
  EXPECT_THAT(ConfigToYaml(config), HasSubstr("secret"));
  const std::string printed = ConfigToYaml(config, Salts::kHide);
  EXPECT_THAT(printed, ::testing::Not(HasSubstr("secret")));
  EXPECT_THAT(printed, HasSubstr("    # salt: left out; --show-salts prints it\n"));
  v1::Config without = config;
  without.mutable_tenants(0)->clear_salt();
  EXPECT_TRUE(MessageDifferencer::Equals(without, Loaded(printed))) << printed;
}

TEST(ConfigLoader, OnlyUtf8IsRead) {
  const auto said = [](const std::string& bytes) {
    return std::string(LoadConfig("log: {}\n# " + bytes, "k.yaml").status().message());
  };
  for (const char* good :
       {"ü", "\xe2\x82\xac", "\xf0\x9f\x8c\x8d", "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf"})
    EXPECT_EQ(said(good), "") << good;
  EXPECT_EQ(said("\xff"), "k.yaml:2: not UTF-8: byte 0xff");
  // Latin-1, cut short, longer than needed, half of a UTF-16 pair, beyond the last character.
  for (const char* bad : {"\xfc", "\xe2\x82", "\xc0\x80", "\xe0\x9f\xbf", "\xed\xa0\x80",
                          "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\x80", "\xc3("}) {
    EXPECT_THAT(said(bad), StartsWith("k.yaml:2: not UTF-8: byte 0x")) << bad;
  }
}

TEST(ConfigLoader, FilesThatCannotBeReadAreNamed) {
  const auto missing = LoadConfigFile("/nonexistent/k.yaml");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(missing.status().message(), HasSubstr("/nonexistent/k.yaml"));
  EXPECT_FALSE(LoadConfigFile("/").ok());
}

TEST(ConfigUnits, TextsReadBack) {
  for (const uint64_t value : {0ull, 1ull, 1023ull, 1024ull, 65537ull, 64ull << 20, 3ull << 40}) {
    EXPECT_EQ(ParseSize(SizeText(value)), value);
    EXPECT_EQ(ParseDuration(DurationText(value)), value);
  }
  EXPECT_EQ(SizeText(64ull << 20), "64MiB");
  EXPECT_EQ(DurationText(90'000), "90s");
  EXPECT_EQ(ParseSize("8388608TiB"), std::nullopt);  // 2^63
  EXPECT_EQ(ParseDuration("1d"), std::nullopt);
  EXPECT_EQ(ParseOctal("0o17"), 15u);
}

// The operator's page explains each field once, with the default and range of the table.
TEST(ConfigLimits, EveryFieldIsInTheOperatorsPage) {
  const char* root = std::getenv("KVTIER_SOURCE_DIR");
  ASSERT_NE(root, nullptr) << "run by ctest";
  std::ifstream file(absl::StrCat(root, "/docs/OPERATING.md"));
  std::stringstream page;
  page << file.rdbuf();
  for (const FieldLimit& limit : ConfigLimits()) {
    EXPECT_THAT(page.str(), HasSubstr(absl::StrFormat("| `%s` | %s | %s |", limit.path,
                                                      DefaultText(limit), RangeText(limit))));
  }
}

// Every field of the schema has a limit, and every limit a field.
void CollectPaths(const google::protobuf::Descriptor* descriptor, const std::string& prefix,
                  std::set<std::string>* paths) {
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const google::protobuf::FieldDescriptor* field = descriptor->field(i);
    const std::string path =
        prefix.empty() ? field->name() : absl::StrCat(prefix, ".", field->name());
    if (field->is_map()) {
      paths->insert(path);
      paths->insert(path + "{}");
    } else if (field->is_repeated()) {
      paths->insert(path);
      if (field->message_type() != nullptr) {
        CollectPaths(field->message_type(), path + "[]", paths);
      } else {
        paths->insert(path + "[]");
      }
    } else if (field->message_type() != nullptr) {
      CollectPaths(field->message_type(), path, paths);
    } else {
      paths->insert(path);
    }
  }
}

TEST(ConfigLimits, TableAndSchemaNameTheSameFields) {
  std::set<std::string> schema;
  CollectPaths(v1::Config::descriptor(), "", &schema);
  std::set<std::string> table;
  for (const FieldLimit& limit : ConfigLimits()) {
    EXPECT_TRUE(table.insert(limit.path).second) << limit.path;
    EXPECT_THAT(ConfigHelp(), HasSubstr(limit.path));
  }
  EXPECT_EQ(table, schema);
}

}  // namespace
}  // namespace kvtier
