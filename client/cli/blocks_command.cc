// `kvtier blocks`.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/admin_client.h"
#include "client/cli/command.h"
#include "client/cli/option_values.h"
#include "client/cli/text_table.h"

namespace kvtier::cli {
namespace {

constexpr uint64_t kChunksPerCall = 1000;

struct BlocksOptions {
  CommonOptions common;
  uint64_t limit = 100;
  bool all = false;
};

Json ChunkJson(const v1::BlocksReply::Chunk& chunk) {
  Json copies = Json::array();
  for (const auto& copy : chunk.copies())
    copies.push_back({{"pool", copy.pool()}, {"blocks", copy.blocks()}});
  return {{"key", HexText(chunk.key())},
          {"parent_key", HexText(chunk.parent_key())},
          {"model", chunk.model()},
          {"token_count", chunk.token_count()},
          {"bytes", chunk.bytes()},
          {"leases", chunk.leases()},
          {"has_children", chunk.children() > 0},
          {"hidden", chunk.hidden()},
          {"copies", std::move(copies)}};
}

std::vector<std::string> ChunkRow(const v1::BlocksReply::Chunk& chunk) {
  std::vector<std::string> copies;
  for (const auto& copy : chunk.copies())
    copies.push_back(absl::StrCat(copy.blocks(), " ", copy.pool()));
  return {HexText(chunk.key()),
          chunk.parent_key().empty() ? "-" : HexText(chunk.parent_key()).substr(0, 8),
          chunk.model(),
          absl::StrCat(chunk.token_count()),
          SizeText(chunk.bytes()),
          absl::StrCat(chunk.leases()),
          absl::StrCat(absl::StrJoin(copies, ", "), chunk.hidden() ? " (forgotten)" : "")};
}

absl::Status RunBlocks(const BlocksOptions& options) {
  auto admin = AdminClient::Connect(options.common.socket);
  if (!admin.ok()) return admin.status();
  const uint64_t limit = options.all ? ~uint64_t{0} : options.limit;
  Json chunks = Json::array();
  TextTable table({"chunk", "parent", "model", "tokens>", "bytes>", "leases>", "blocks"});
  uint64_t count = 0;
  uint64_t cursor = 0;
  do {
    v1::BlocksRequest request;
    request.set_limit(std::min(limit - count, kChunksPerCall));
    request.set_cursor(cursor);
    v1::BlocksReply reply;
    absl::Status status = admin->Call(&v1::Admin::Stub::Blocks, request, reply);
    if (!status.ok()) return status;
    for (const auto& chunk : reply.chunks()) {
      if (options.common.json) {
        chunks.push_back(ChunkJson(chunk));
      } else {
        table.AddRow(ChunkRow(chunk));
      }
    }
    count += static_cast<uint64_t>(reply.chunks_size());
    cursor = reply.next_cursor();
  } while (cursor != 0 && count < limit);
  if (options.common.json) {
    PrintJson({{"chunks", std::move(chunks)}, {"more", cursor != 0}});
    return absl::OkStatus();
  }
  std::fputs(table.Text().c_str(), stdout);
  if (cursor != 0) {
    std::printf("(the first %llu chunks; --limit or --all shows more)\n",
                static_cast<unsigned long long>(count));
  }
  return absl::OkStatus();
}

}  // namespace

void AddBlocksCommand(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<BlocksOptions>();
  CLI::App* command = app.add_subcommand(
      "blocks", "Lists chunks of the caller's tenant and where their blocks are");
  AddCommonOptions(*command, options->common);
  AddCountOption(*command, "--limit", options->limit, 1, uint64_t{1} << 40,
                 "At most this many chunks");
  command->add_flag("--all", options->all, "All chunks");
  SetAction(*command, exit_code, [options] { return RunBlocks(*options); });
}

}  // namespace kvtier::cli
