// `kvtier trace generate --kind attention`.
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/interrupt.h"
#include "client/cli/option_values.h"
#include "client/cli/output_file.h"
#include "client/cli/trace_commands.h"
#include "sim/quantity.h"
#include "sim/spec_reader.h"
#include "tiering/base/status_macros.h"

namespace kvtier::cli {
namespace {

constexpr const char* kAttentionOptions[] = {
    "--model",       "--prompt-tokens", "--steps", "--read-share",    "--rank-exponent",
    "--persistence", "--drift",         "--noise", "--recent-blocks", "--sink-blocks"};

// A number with up to three decimals, as thousandths.
void AddMilliOption(CLI::App& command, const std::string& name, uint32_t& milli, uint32_t min_milli,
                    uint32_t max_milli, const std::string& description) {
  const auto text_of = [](uint32_t number) {
    std::string text =
        absl::StrCat(number / 1000, ".", number % 1000 / 100, number % 100 / 10, number % 10);
    while (text.back() == '0') text.pop_back();
    if (text.back() == '.') text.pop_back();
    return text;
  };
  const std::string range = absl::StrCat(text_of(min_milli), " to ", text_of(max_milli));
  command
      .add_option_function<std::string>(
          name,
          [&milli, min_milli, max_milli, name, range](const std::string& text) {
            // A thousandth is a byte of a kilobyte: exact, and more decimals are seen.
            const size_t point = text.find('.');
            const bool fits = point == std::string::npos || text.size() - point <= 4;
            const auto number =
                sim::ParseQuantity(text + "kB", sim::Unit::kBytes, min_milli, max_milli);
            if (!fits || !number.ok())
              throw CLI::ValidationError(absl::StrCat(name, " is \"", text, "\"; a number from ",
                                                      range, " with up to 3 decimals is needed"));
            milli = static_cast<uint32_t>(*number);
          },
          absl::StrCat(description, ", ", range, " (default ", text_of(milli), ")"))
      ->type_name("NUMBER");
}

template <typename Number>
void AddSmallCount(CLI::App& command, const std::string& name, Number& value, uint64_t min,
                   uint64_t max, const std::string& description) {
  command
      .add_option(name, value,
                  absl::StrCat(description, ", ", min, " to ", max, " (default ", value, ")"))
      ->check(CLI::Range(static_cast<Number>(min), static_cast<Number>(max)))
      ->type_name("NUMBER");
}

}  // namespace

void AddAttentionOptions(CLI::App& command, AttentionArguments& arguments) {
  command
      .add_option("--model", arguments.model,
                  "attention: its layers are the planes; a YAML file, or one of " +
                      absl::StrJoin(sim::ModelNames(), ", ") + "\n(default llama-3.1-8b)")
      ->type_name("NAME");
  AddCountOption(command, "--prompt-tokens", arguments.prompt_tokens, 1, 100'000'000,
                 "attention: tokens before the first step");
  AddCountOption(command, "--steps", arguments.steps, 1, sim::kStepsMax,
                 "attention: tokens that are decoded");
  sim::AttentionOptions& options = arguments.options;
  AddMilliOption(command, "--read-share", options.read_milli, 1, 1000,
                 "attention: the part of its blocks that a plane reads in a step");
  AddMilliOption(command, "--rank-exponent", options.rank_exponent_milli, 0, 4000,
                 "attention: how much more important some blocks are than others");
  AddMilliOption(command, "--persistence", options.persistence_milli, 0, 1000,
                 "attention: how much of what drifts is kept from step to step");
  AddMilliOption(command, "--drift", options.drift_milli, 0, 4000,
                 "attention: how far importance drifts");
  AddMilliOption(command, "--noise", options.noise_milli, 0, 4000,
                 "attention: how much is new in every step");
  AddSmallCount(command, "--recent-blocks", options.recent_blocks, 0, 1 << 20,
                "attention: newest blocks that are always among the best");
  AddSmallCount(command, "--sink-blocks", options.sink_blocks, 0, 1 << 20,
                "attention: first blocks likewise");
}

std::string FirstAttentionOption(const CLI::App& command) {
  for (const char* const name : kAttentionOptions) {
    if (command.count(name) > 0) return name;
  }
  return {};
}

absl::Status GenerateAttention(const AttentionArguments& arguments, uint32_t block_tokens,
                               uint64_t seed, const std::string& output) {
  KVTIER_ASSIGN_OR_RETURN(const sim::ModelSpec model, sim::ReadModel(arguments.model));
  sim::AttentionOptions options = arguments.options;
  options.geometry.model = model.name;
  options.geometry.planes = model.layers;
  options.geometry.block_tokens = block_tokens;
  options.geometry.prompt_tokens = arguments.prompt_tokens;
  options.geometry.steps = static_cast<uint32_t>(arguments.steps);
  options.seed = seed;
  CatchSignals();  // from here on there may be a temporary file
  KVTIER_ASSIGN_OR_RETURN(const std::unique_ptr<OutputFile> file, OutputFile::Create(output));
  KVTIER_ASSIGN_OR_RETURN(const std::string bytes,
                          sim::GenerateAttentionTrace(options, CheckInterrupted));
  KVTIER_RETURN_IF_ERROR(file->Write(bytes.data(), bytes.size()));
  return file->Commit();
}

}  // namespace kvtier::cli
