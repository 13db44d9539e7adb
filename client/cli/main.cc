// `kvtier`: shows a running kvtierd, stores and fetches files through it, measures it, drains it.
#include <fcntl.h>

#include <cstdio>
#include <exception>
#include <sstream>

#include "client/cli/command.h"
#include "client/cli/usage_text.h"

namespace kvtier::cli {
namespace {

// Where one of 0, 1, 2 is closed, the next file opened would get its number, and what is printed
// would end in that file. The stand-ins fail as the closed ones did.
void OccupyStandardDescriptors() {
  for (int fd = 0; fd <= 2; ++fd) {
    if (::fcntl(fd, F_GETFD) < 0) ::open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);
  }
}

int Main(int argc, char** argv) {
  OccupyStandardDescriptors();
  CLI::App app("Talks to kvtierd, the daemon that owns KV cache blocks on this machine.", "kvtier");
  app.require_subcommand(1);
  app.set_version_flag("--version", "kvtier " KVTIER_VERSION);
  app.footer(
      "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no daemon answers, 128 + n ended by signal "
      "n.");
  int exit_code = kExitOk;
  AddStatusCommand(app, exit_code);
  AddPoolsCommand(app, exit_code);
  AddBlocksCommand(app, exit_code);
  AddPutCommand(app, exit_code);
  AddGetCommand(app, exit_code);
  AddBenchCommand(app, exit_code);
  AddReplayCommand(app, exit_code);
  AddTraceCommand(app, exit_code);
  AddBoundCommand(app, exit_code);
  AddSimCommand(app, exit_code);
  AddPlanCommand(app, exit_code);
  AddReportCommand(app, exit_code);
  AddDrainCommand(app, exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& asked) {  // for help or the version
    std::ostringstream text;
    app.exit(asked, text, text);
    std::fputs(text.str().c_str(), stdout);
    return Finish(absl::OkStatus());
  } catch (const CLI::ParseError& error) {
    std::fputs(UsageText(app, error, argc, argv).c_str(), stderr);
    return kExitUsage;
  }
  return exit_code;
}

}  // namespace
}  // namespace kvtier::cli

int main(int argc, char** argv) {
  try {
    return kvtier::cli::Main(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "kvtier: %s\n", error.what());
    return kvtier::cli::kExitFailed;
  }
}
