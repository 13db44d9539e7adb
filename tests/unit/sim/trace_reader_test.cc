// Proves that traces of both formats are read as their format says, and that whatever else a file
// has in it is an error that names the place and the limit. Traces are made here, a few lines each.
#include "sim/trace_reader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace kvtier::sim {
namespace {

using test_support::IsOk;
using test_support::StatusIs;
using test_support::TempDir;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A prompt of whole blocks of 512 tokens, if `input` does not say otherwise.
std::string Line(const std::string& timestamp, const std::string& ids,
                 const std::string& input = "") {
  const auto blocks = ids.empty() ? 0 : 1 + std::count(ids.begin(), ids.end(), ',');
  return absl::StrCat("{\"timestamp\": ", timestamp,
                      ", \"input_length\": ", input.empty() ? absl::StrCat(512 * blocks) : input,
                      ", \"output_length\": 5, \"hash_ids\": [", ids, "]}");
}

std::string Request(const std::string& t, const std::string& ids, const std::string& model = "m") {
  return absl::StrCat("{\"t\": ", t, ", \"type\": \"n\", \"model\": \"", model,
                      "\", \"in\": 10, \"out\": 2, \"hash_ids\": [", ids, "]}");
}

std::string Session(const std::string& requests, const std::string& more = "") {
  return absl::StrCat("{\"id\": \"s\", \"block_size\": 64, \"tool_tokens\": 130, ",
                      "\"system_tokens\": 70, ", more, "\"requests\": [", requests, "]}");
}

class TraceReaderTest : public ::testing::Test {
 protected:
  absl::StatusOr<Trace> Read(const std::string& name, const std::string& text,
                             const TraceReadOptions& options = {}) {
    return ReadTrace(directory_.Write(name, text), options);
  }
  TempDir directory_;
};

TEST_F(TraceReaderTest, LinesOfMooncake) {
  // A blank line, Windows' line ends, a last line without one, a field that nobody knows.
  const std::string text =
      absl::StrCat(Line("0", "0, 1, 2", "48"), "\r\n\n", Line("1500.5", "0, 7", "17"),
                   "\n{\"extra\": [{\"a\": {\"a\": 1}}, {\"a\": 2}], ", Line("2000", "").substr(1));
  ASSERT_OK_AND_ASSIGN(const Trace trace, Read("t.jsonl", text, {.block_tokens = 16}));
  EXPECT_EQ(trace.block_tokens, 16u);
  EXPECT_TRUE(trace.sessions.empty());
  ASSERT_EQ(trace.requests.size(), 3u);
  EXPECT_DOUBLE_EQ(trace.requests[1].at_s, 1.5005);
  EXPECT_EQ(trace.requests[1].line, 3u);
  EXPECT_THAT(trace.IdsOf(trace.requests[0]), ElementsAre(0, 1, 2));
  EXPECT_THAT(trace.IdsOf(trace.requests[1]), ElementsAre(0, 7));
  EXPECT_THAT(trace.IdsOf(trace.requests[2]), ElementsAre());
  EXPECT_EQ(NameOf(trace.requests[1], 1, 7), (BlockName{0, 7}));
}

TEST_F(TraceReaderTest, LimitLeavesTheRestUnread) {
  const std::string text = Line("0", "1") + "\n" + Line("1", "2") + "\nnonsense";
  ASSERT_OK_AND_ASSIGN(const Trace trace, Read("t.jsonl", text, {.requests_max = 2}));
  EXPECT_EQ(trace.requests.size(), 2u);
  EXPECT_THAT(Read("t.jsonl", text, {.block_tokens = 0}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("blocks of 0 tokens")));
  EXPECT_THAT(Read("t.jsonl", text, {.requests_max = 3}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("t.jsonl:3: no JSON")));
}

TEST_F(TraceReaderTest, LinesAreReadAcrossTheReadersBuffer) {
  std::vector<std::string> lines;
  for (int i = 0; i < 40'000; ++i)
    lines.push_back(Line(absl::StrCat(i), absl::StrCat("1, ", i + 2)));
  ASSERT_OK_AND_ASSIGN(const Trace trace, Read("t.jsonl", absl::StrJoin(lines, "\n")));
  ASSERT_EQ(trace.requests.size(), 40'000u);
  for (uint64_t i = 0; i < 40'000; ++i)
    ASSERT_THAT(trace.IdsOf(trace.requests[i]), ElementsAre(1, i + 2)) << i;
}

TEST_F(TraceReaderTest, BadLinesAreNamed) {
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"nonsense", "no JSON"},
      {Line("0", "1").substr(0, 30), "no JSON"},
      {"[1]", "is a list of 1; an object is needed"},
      {"7", "is 7; an object is needed"},
      {"{}", "there is no timestamp"},
      {Line("-1", "1"), "timestamp is -1; a number from 0 to 1000000000000 is needed"},
      {Line("NaN", "1"), "no JSON"},
      {Line("1e999", "1"), "no JSON"},
      {Line("1e13", "1"), "timestamp is 10000000000000.0; a number from"},
      {Line("\"0\"", "1"), "timestamp is \"0\"; a number from"},
      {Line("null", "1"), "timestamp is null"},
      {Line("0", "1", "-5"), "input_length is -5; a whole number from 0 to 1000000000"},
      {Line("0", "1", "1000000001"), "input_length is 1000000001; a whole number from"},
      {Line("0", "1", "1.5"), "input_length is 1.5; a whole number"},
      {Line("0", "1", "true"), "input_length is true; a whole number"},
      {Line("0", "-3"), "hash_ids[0] is -3; a whole number from 0 to 18446744073709551615"},
      {Line("0", "1, 2.0"), "hash_ids[1] is 2.0; a whole number"},
      {Line("0", "18446744073709551616"), "hash_ids[0] is 1.8446744073709552e+19"},
      {Line("0", "1, \"2\""), "hash_ids[1] is \"2\""},
      {Line("0", "1, [2]"), "hash_ids[1] is a list of 1"},
      {Line("0", "4, 5, 4"), "hash_ids[2] is 4, which stands before in the same prompt"},
      {"{\"timestamp\": 0, \"input_length\": 1, \"output_length\": 1}", "there is no hash_ids"},
      {"{\"timestamp\": 0, \"input_length\": 1, \"output_length\": 1, \"hash_ids\": {}}",
       "hash_ids is an object; a list is needed"},
      {Line("0", "1").insert(1, "\"hash_ids\": [2], "), "field \"hash_ids\" is there twice"},
      {Line("0", "1").insert(1, "\"x\": {\"\": [{}], \"\\u0000\": 1, \"\": 2}, "),
       "field \"\" is there twice"},
      {std::string(100'000, '['), "nested too deeply; the limit is 16 levels"},
      {std::string("{\"timestamp\": \0}", 16), "no JSON"},
      {"{\"timestamp\": \"\xff\xfe\"}", "no JSON"},
  };
  for (const auto& [line, wanted] : bad) {
    EXPECT_THAT(Read("t.jsonl", Line("0", "1") + "\n" + line + "\n"),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("t.jsonl:2: "), HasSubstr(wanted))))
        << line.substr(0, 100);
  }
}

TEST_F(TraceReaderTest, BlocksOfAnotherSizeAreRefused) {
  struct Case {
    const char* input;
    const char* ids;
    uint32_t block_tokens;
    const char* wanted;  // empty: it fits
  };
  const std::vector<Case> cases = {
      {"1024", "1, 2", 512, ""},
      {"513", "1, 2", 512, ""},
      {"512", "1, 2", 512,
       "hash_ids has 2 ids, input_length 512 needs 1 of 512 tokens; "
       "--block-tokens 256 fits"},
      {"1025", "1, 2", 512, "needs 3 of 512 tokens; --block-tokens 1024 fits"},
      {"1300", "1, 2", 512, "needs 3 of 512 tokens; --block-tokens 1024 fits"},
      {"300", "1, 2, 3", 512, "needs 1 of 512 tokens; --block-tokens 128 fits"},
      {"300", "1, 2, 3", 100, ""},
      {"270", "1, 2, 3, 4, 5, 6", 512, "--block-tokens 45 fits"},
      {"5", "1, 2, 3, 4", 512, "no --block-tokens fits"},
      {"100", "", 512, "hash_ids has 0 ids, input_length 100"},
      {"0", "1", 512, "no --block-tokens fits"},
      {"65537", "1", 512, "no --block-tokens fits"},
      {"0", "", 512, ""},
  };
  for (const Case& c : cases) {
    const auto trace =
        Read("t.jsonl", "\n" + Line("0", c.ids, c.input), {.block_tokens = c.block_tokens});
    if (*c.wanted == '\0') {
      EXPECT_THAT(trace, IsOk()) << c.input;
    } else {
      EXPECT_THAT(trace, StatusIs(absl::StatusCode::kInvalidArgument,
                                  AllOf(HasSubstr("t.jsonl:2: "), HasSubstr(c.wanted))))
          << c.input;
    }
  }
}

TEST_F(TraceReaderTest, HugeLinesAndPromptsAreRefused) {
  EXPECT_THAT(Read("t.jsonl", std::string(kLineBytesMax + 2, ' ')),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("t.jsonl:1: the line has more than 16777216 bytes")));
  std::string ids = "0";
  for (uint64_t i = 1; i <= kBlocksPerRequestMax; ++i) absl::StrAppend(&ids, ",", i);
  EXPECT_THAT(Read("t.jsonl", Line("0", ids)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("t.jsonl:1: hash_ids has 1048577 ids; the limit is 1048576")));
}

TEST_F(TraceReaderTest, WhatCannotBeReadIsNamed) {
  const std::string path = directory_.path() + "/none";
  EXPECT_THAT(ReadTrace(path, {}), StatusIs(absl::StatusCode::kNotFound, HasSubstr(path)));
  EXPECT_THAT(Read("empty.jsonl", ""),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("there is no request")));
  EXPECT_THAT(Read("none.json", Session("")),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("there is no request")));
  TempDir folder;
  folder.Write("notes.txt", "x");
  EXPECT_THAT(ReadTrace(folder.path(), {}),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("no file ends in .json")));
}

TEST_F(TraceReaderTest, SessionsShareTheirToolsAndSystemPrompt) {
  TempDir folder;
  folder.Write("a.json", Session(Request("0", "1, 2, 3, 4") + "," + Request("9.5", "1, 2, 3, 5")));
  folder.Write("b.json", Session(Request("0", "1, 2, 3, 4")));
  folder.Write("c.json", Session(Request("0", "1, 2, 3, 4", "other")));
  folder.Write("readme.md", "no session");
  ASSERT_OK_AND_ASSIGN(const Trace trace, ReadTrace(folder.path(), {}));
  EXPECT_EQ(trace.block_tokens, 64u);
  ASSERT_EQ(trace.sessions.size(), 3u);
  ASSERT_EQ(trace.requests.size(), 4u);
  EXPECT_DOUBLE_EQ(trace.requests[1].at_s, 9.5);
  const auto name = [&](size_t request, uint32_t block) {
    return NameOf(trace.requests[request], block, trace.IdsOf(trace.requests[request])[block]);
  };
  // 200 tokens are three whole blocks.
  for (uint32_t block = 0; block < 3; ++block) {
    EXPECT_EQ(name(0, block), name(1, block));
    EXPECT_EQ(name(0, block), name(2, block)) << "the same tools, another session";
    EXPECT_FALSE(name(0, block) == name(3, block)) << "another model";
  }
  EXPECT_FALSE(name(0, 3) == name(1, 3)) << "another id";
  EXPECT_FALSE(name(0, 3) == name(2, 3)) << "the same id of another session";
  EXPECT_FALSE(name(0, 2) == name(0, 3));
}

TEST_F(TraceReaderTest, OneSessionIsATraceWhateverItsName) {
  for (const char* name : {"s.json", "s.txt"}) {
    ASSERT_OK_AND_ASSIGN(const Trace trace, Read(name, Session(Request("0", "1"))));
    EXPECT_EQ(trace.sessions.size(), 1u) << name;
  }
  ASSERT_OK_AND_ASSIGN(const Trace lines, Read("lines.json", Line("0", "1")));
  EXPECT_TRUE(lines.sessions.empty());
}

TEST_F(TraceReaderTest, GlobalIdsMeanTheSameInAllSessions) {
  TempDir folder;
  for (const char* name : {"a.json", "b.json"})
    folder.Write(name, Session(Request("0", "1, 2, 3, 4"), "\"hash_id_scope\": \"global\", "));
  ASSERT_OK_AND_ASSIGN(const Trace trace, ReadTrace(folder.path(), {}));
  EXPECT_EQ(NameOf(trace.requests[0], 3, 4), NameOf(trace.requests[1], 3, 4));
}

TEST_F(TraceReaderTest, SubAgentsStandBetweenTheRequestsOfTheirTime) {
  const std::string agent =
      absl::StrCat("{\"t\": 10, \"type\": \"subagent\", \"tool_tokens\": 64, \"requests\": [",
                   Request("0", "50, 51"), ",", Request("7", "50, 52"), ",",
                   "{\"t\": 1, \"requests\": [", Request("0.5", "60"), "]}]}");
  ASSERT_OK_AND_ASSIGN(const Trace trace, Read("s.json", Session(Request("0", "1") + "," + agent +
                                                                 "," + Request("15", "2"))));
  std::vector<std::pair<double, uint64_t>> found;  // time and last id
  for (const TraceRequest& request : trace.requests)
    found.push_back({request.at_s, trace.IdsOf(request).back()});
  EXPECT_THAT(found, ElementsAre(std::pair(0.0, 1), std::pair(10.0, 51), std::pair(11.5, 60),
                                 std::pair(15.0, 2), std::pair(17.0, 52)));
  EXPECT_EQ(trace.requests[1].shared_blocks, 1u) << "the agent's own tools";
  EXPECT_FALSE(NameOf(trace.requests[1], 0, 50) == NameOf(trace.requests[0], 0, 1));
}

TEST_F(TraceReaderTest, BadSessionsAreNamed) {
  std::string nested = Request("0", "1");
  for (int i = 0; i < kAgentDepthMax + 1; ++i)
    nested = absl::StrCat("{\"t\": 0, \"requests\": [", nested, "]}");
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"", "no JSON"},
      {"[]", "is a list of 0; an object is needed"},
      {Session(Request("0", "1")).substr(0, 90), "no JSON"},
      {"{\"requests\": []}", "there is no block_size"},
      {"{\"block_size\": 0, \"requests\": []}", "block_size is 0; a whole number from 1 to 65536"},
      {"{\"block_size\": 65537, \"requests\": []}", "block_size is 65537"},
      {"{\"block_size\": 64}", "there is no requests"},
      {"{\"block_size\": 64, \"requests\": 5}", "requests is 5; a list is needed"},
      {"{\"block_size\": 64, \"tool_tokens\": -1, \"requests\": []}", "tool_tokens is -1"},
      {"{\"block_size\": 64, \"id\": 5, \"requests\": []}", "id is 5; a text of at most 1024"},
      {Session(Request("0", "1"), "\"id\": \"t\", "), "field \"id\" is there twice"},
      {Session("5"), "requests[0]: is 5; an object is needed"},
      {Session(Request("0", "1") + ", {\"hash_ids\": []}"), "requests[1]: there is no t"},
      {Session(Request("-0.5", "1")), "requests[0]: t is -0.5; a number from 0 to 1000000000"},
      {Session(Request("0", "1, 1")), "requests[0]: hash_ids[1] is 1, which stands before"},
      {Session(Request("0", "-1")), "requests[0]: hash_ids[0] is -1"},
      {Session("{\"t\": 0}"), "requests[0]: there is no hash_ids"},
      {Session("{\"t\": 3, \"requests\": [{\"t\": 1}]}"),
       "requests[0]: requests[0]: there is no hash_ids"},
      {Session(nested), "agents nest 9 deep; the limit is 8"},
      {Session("{\"t\": 0, \"x\": " + std::string(5000, '[') + "}"), "nested too deeply"},
  };
  for (const auto& [text, wanted] : bad) {
    EXPECT_THAT(Read("s.json", text), StatusIs(absl::StatusCode::kInvalidArgument,
                                               AllOf(HasSubstr("s.json: "), HasSubstr(wanted))))
        << text.substr(0, 200);
  }
}

TEST_F(TraceReaderTest, SessionsOfDifferentBlocksAreRefused) {
  TempDir folder;
  folder.Write("a.json", Session(Request("0", "1")));
  folder.Write("b.json", "{\"block_size\": 32, \"requests\": []}");
  EXPECT_THAT(ReadTrace(folder.path(), {}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("b.json: block_size is 32, of sessions before it 64")));
}

// Every prefix of a good file, and the file with each of its bytes changed, is read or refused.
TEST_F(TraceReaderTest, CutAndChangedFilesAreReadOrRefused) {
  const std::string session = Session(Request("0", "1, 2") + "," + Request("3", "1, 4"));
  const std::string lines = Line("0", "0, 1") + "\n" + Line("5", "0, 2") + "\n";
  const auto check = [](const std::string& text) {
    Trace as_line{.block_tokens = 512};
    const absl::Status line = AppendMooncakeLine(text, "place", as_line);
    Trace as_session;
    const absl::Status whole = AppendSession(text, "name", "place", as_session);
    for (const absl::Status& status : {line, whole}) {
      if (status.ok()) continue;
      EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("place: ")));
    }
  };
  for (const std::string& good : {session, lines, Line("0", "0, 1")}) {
    for (size_t cut = 0; cut < good.size(); ++cut) check(good.substr(0, cut));
    for (size_t i = 0; i < good.size(); ++i) {
      for (const char c : {'\0', '"', '-', '[', '{', '9', '\xff', 'e'}) {
        std::string changed = good;
        changed[i] = c;
        check(changed);
      }
    }
  }
}

}  // namespace
}  // namespace kvtier::sim
