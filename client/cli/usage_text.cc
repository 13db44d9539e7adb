#include "client/cli/usage_text.h"

#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace kvtier::cli {
namespace {

// The subcommand that was reached; appends how it is typed: "kvtier bench rpc".
const CLI::App* Reached(const CLI::App* app, std::string& typed) {
  for (;;) {
    const std::vector<CLI::App*> parsed = app->get_subcommands();
    if (parsed.empty()) return app;
    app = parsed.back();
    absl::StrAppend(&typed, " ", app->get_name());
  }
}

// "status, pools or blocks"; hidden ones are left out.
std::string Choices(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands(nullptr)) {
    if (!command->get_group().empty()) names.push_back(command->get_name());
  }
  if (names.size() < 2) return absl::StrJoin(names, "");
  const std::string last = names.back();
  names.pop_back();
  return absl::StrCat(absl::StrJoin(names, ", "), " or ", last);
}

bool Is(const CLI::ParseError& error, CLI::ExitCodes kind) {
  return error.get_exit_code() == static_cast<int>(kind);
}

// About what was left over after options and arguments had been taken.
std::string ExtraSentence(const std::string& extra, const CLI::App& reached,
                          const std::string& typed, bool comes_first) {
  if (absl::StartsWith(extra, "-") && extra != "-") {
    return comes_first ? absl::StrCat(extra,
                                      " stands before the subcommand; options come after it, "
                                      "as in ",
                                      typed, " ", extra)
                       : absl::StrCat(typed, " has no option ", extra);
  }
  for (const CLI::App* command : reached.get_subcommands(nullptr)) {
    for (const CLI::App* own : command->get_subcommands(nullptr)) {
      if (own->get_name() == extra)
        return absl::StrCat("\"", extra, "\" comes after ", command->get_name(), ", as in ", typed,
                            " ", command->get_name(), " ", extra);
    }
  }
  const std::string choices = Choices(reached);
  if (choices.empty()) return absl::StrCat("\"", extra, "\" is one argument too many for ", typed);
  return absl::StrCat("\"", extra, "\" is no subcommand of ", typed, ": ",
                      absl::StrContains(choices, ' ') ? "there are " : "the only one is ", choices);
}

std::string Sentence(const CLI::ParseError& error, const CLI::App& reached) {
  const std::string what = error.what();
  const std::string name = what.substr(0, what.find(':'));
  const std::string choices = Choices(reached);
  if (Is(error, CLI::ExitCodes::RequiredError) && !choices.empty())
    return absl::StrCat("a subcommand is needed: ", choices);
  if (Is(error, CLI::ExitCodes::ArgumentMismatch)) {
    return absl::StrCat(
        name, absl::StrContains(what, "At Most") ? " is given more than once" : " needs a value");
  }
  // Only flags are converted by the library.
  if (Is(error, CLI::ExitCodes::ConversionError)) {
    const size_t flag = what.find("--");
    if (flag != std::string::npos)
      return absl::StrCat(what.substr(flag, what.find_first_of(" :", flag) - flag),
                          " takes no value");
  }
  return what;
}

}  // namespace

std::string UsageText(const CLI::App& app, const CLI::ParseError& error, int argc,
                      const char* const* argv) {
  std::string typed = "kvtier";
  const CLI::App* reached = Reached(&app, typed);
  const std::vector<std::string> extras = app.remaining(true);
  const bool comes_first =
      !extras.empty() && reached != &app && argc > 1 && absl::string_view(argv[1]) == extras[0];
  return absl::StrCat("kvtier: ",
                      extras.empty() ? Sentence(error, *reached)
                                     : ExtraSentence(extras[0], *reached, typed, comes_first),
                      "\n`", typed, " --help` says what it takes\n");
}

}  // namespace kvtier::cli
