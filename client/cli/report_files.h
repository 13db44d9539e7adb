// The Python modules that `kvtier report` runs.
#pragma once

#include "absl/types/span.h"
#include "client/cli/embedded_file.h"

namespace kvtier::cli {

// All of package kvtier.report, as client/python has it; paths are below the folder of packages.
absl::Span<const EmbeddedFile> ReportFiles();

}  // namespace kvtier::cli
