// The parts of `kvtier trace` that have files of their own.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "client/cli/command.h"
#include "sim/attention_generator.h"

namespace kvtier::cli {

void AddTraceInfoCommand(CLI::App& trace, int& exit_code);

// Options of `kvtier trace generate --kind attention`.
struct AttentionArguments {
  std::string model = "llama-3.1-8b";
  uint64_t prompt_tokens = 32'768;
  uint64_t steps = 1000;
  sim::AttentionOptions options{};  // shares, factors, recent blocks and sinks
};
void AddAttentionOptions(CLI::App& command, AttentionArguments& arguments);
// Whether any of them was given, by the name of the first.
std::string FirstAttentionOption(const CLI::App& command);
// Makes the trace up and writes it.
absl::Status GenerateAttention(const AttentionArguments& arguments, uint32_t block_tokens,
                               uint64_t seed, const std::string& output);

}  // namespace kvtier::cli
