// `kvtier`: shows a running kvtierd, stores and fetches files through it, measures it, drains it.
#include <cstdio>
#include <exception>

#include "client/cli/command.h"

namespace kvtier::cli {
namespace {

int Main(int argc, char** argv) {
  CLI::App app("Talks to kvtierd, the daemon that owns KV cache blocks on this machine.");
  app.require_subcommand(1);
  app.set_version_flag("--version", "kvtier " KVTIER_VERSION);
  app.footer("Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no daemon answers.");
  int exit_code = kExitOk;
  AddStatusCommand(app, exit_code);
  AddPoolsCommand(app, exit_code);
  AddBlocksCommand(app, exit_code);
  AddPutCommand(app, exit_code);
  AddGetCommand(app, exit_code);
  AddBenchCommand(app, exit_code);
  AddDrainCommand(app, exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
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
