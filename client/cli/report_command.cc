// `kvtier report`: runs the package's Python module, of which the command carries a copy, so that
// neither the package nor its extension has to be installed.
#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/cli/child_process.h"
#include "client/cli/command.h"
#include "client/cli/interrupt.h"
#include "client/cli/output_file.h"
#include "client/cli/report_files.h"

namespace kvtier::cli {
namespace {

// The system's own comes first: that is the one which the system's packages are for.
constexpr const char* kSystemPython = "/usr/bin/python3";
// Its first argument takes the place of the current directory among the folders with modules.
constexpr const char* kProgram =
    "import sys; sys.path[0] = sys.argv.pop(1); "
    "from kvtier.report.command import run; sys.exit(run())";
constexpr int kNotExecuted = 127;

struct ReportOptions {
  std::vector<std::string> results;
  std::string output;
  std::string python;
};

bool IsProgram(const std::string& path) {
  std::error_code error;
  return ::access(path.c_str(), X_OK) == 0 && !std::filesystem::is_directory(path, error);
}

// A name without a slash is looked for in $PATH.
absl::StatusOr<std::string> FindPython(const std::string& wanted) {
  if (wanted.empty() && IsProgram(kSystemPython)) return std::string(kSystemPython);
  const std::string name = wanted.empty() ? "python3" : wanted;
  if (name.find('/') != std::string::npos) {
    if (IsProgram(name)) return name;
    return absl::NotFoundError(absl::StrCat("--python is \"", name, "\", which is no program"));
  }
  const char* path = std::getenv("PATH");
  for (const auto folder : absl::StrSplit(path == nullptr ? "" : path, ':')) {
    const std::string program = absl::StrCat(folder.empty() ? "." : folder, "/", name);
    if (IsProgram(program)) return program;
  }
  return absl::NotFoundError(absl::StrCat(
      "there is no ", name, " in $PATH; kvtier report takes Python 3.9 or later with matplotlib"));
}

absl::Status WriteModule(const std::filesystem::path& path, std::string_view text) {
  std::error_code error;
  std::filesystem::create_directories(path.parent_path(), error);
  std::ofstream file(path, std::ios::binary);
  file.write(text.data(), static_cast<std::streamsize>(text.size()));
  file.close();
  if (file) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("cannot write ", path.string()));
}

// The package, with nothing of its other parts.
absl::Status WritePackage(const std::filesystem::path& folder) {
  absl::Status status = WriteModule(folder / "kvtier" / "__init__.py", "");
  for (const EmbeddedFile& file : ReportFiles()) {
    if (status.ok()) status = WriteModule(folder / file.path, file.text);
  }
  return status;
}

// Waits for the child, or for a signal, after which the caller ends it.
absl::Status Await(ChildProcess& child) {
  const int process = static_cast<int>(::syscall(SYS_pidfd_open, child.pid(), 0));
  if (process < 0) {
    return absl::InternalError(
        absl::StrCat("cannot watch process ", child.pid(), ": ", std::strerror(errno)));
  }
  const auto close = absl::MakeCleanup([process] { ::close(process); });
  return AwaitReady(process, POLLIN);
}

// Python says itself what is wrong; `exit_code` is then its own, and the status OK.
absl::Status RunReport(const ReportOptions& options, int& exit_code) {
  if (absl::Status status = CheckApart({options.output}, options.results); !status.ok())
    return status;
  CatchSignals();
  auto python = FindPython(options.python);
  if (!python.ok()) return python.status();
  auto folder = ScratchDirectory::Create();
  if (!folder.ok()) return folder.status();
  if (absl::Status status = WritePackage((*folder)->path()); !status.ok()) return status;
  // -B: no compiled copies of modules that are about to be removed.
  std::vector<std::string> arguments = {*python,           "-B", "-c",           kProgram,
                                        (*folder)->path(), "-o", options.output, "--"};
  arguments.insert(arguments.end(), options.results.begin(), options.results.end());
  auto child = ChildProcess::Start({.program = *python, .argv = std::move(arguments)});
  if (!child.ok()) return child.status();
  if (absl::Status status = Await(**child); !status.ok()) return status;
  const int how = (*child)->Wait();
  if (WIFEXITED(how) && WEXITSTATUS(how) != kNotExecuted) {
    exit_code = WEXITSTATUS(how);
    return absl::OkStatus();
  }
  return absl::InternalError(WIFEXITED(how)
                                 ? absl::StrCat("cannot run ", *python)
                                 : absl::StrCat(*python, " was ended by signal ", WTERMSIG(how)));
}

}  // namespace

void AddReportCommand(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<ReportOptions>();
  CLI::App* command = app.add_subcommand(
      "report", "Writes an HTML page about results of kvtier bound, sim and plan");
  command
      ->add_option("RESULT", options->results, "Files with what those print with --json, up to 64")
      ->required()
      ->expected(1, 64);
  command->add_option("-o,--output", options->output, "Where the page goes; -: standard output")
      ->required()
      ->type_name("FILE");
  command
      ->add_option("--python", options->python,
                   absl::StrCat("Python 3.9 or later with matplotlib (default: ", kSystemPython,
                                ", else python3 in $PATH)"))
      ->type_name("PATH");
  command->footer(
      "The page is one file, with its plots in it. Debian's package of matplotlib is "
      "python3-matplotlib.");
  command->final_callback([&exit_code, options] {
    int python_code = kExitOk;
    const absl::Status status = RunReport(*options, python_code);
    exit_code = Finish(status);
    if (exit_code == kExitOk) exit_code = python_code;
  });
}

}  // namespace kvtier::cli
