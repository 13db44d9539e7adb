// Early return on a failed absl::Status or StatusOr.
#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define KVTIER_RETURN_IF_ERROR(expression)                                                    \
  do {                                                                                        \
    if (absl::Status kvtier_status = (expression); !kvtier_status.ok()) return kvtier_status; \
  } while (false)

#define KVTIER_STATUS_CONCAT_INNER(a, b) a##b
#define KVTIER_STATUS_CONCAT(a, b) KVTIER_STATUS_CONCAT_INNER(a, b)
#define KVTIER_ASSIGN_OR_RETURN(declaration, expression) \
  KVTIER_ASSIGN_OR_RETURN_IMPL(KVTIER_STATUS_CONCAT(kvtier_or_, __LINE__), declaration, expression)
#define KVTIER_ASSIGN_OR_RETURN_IMPL(holder, declaration, expression) \
  auto holder = (expression);                                         \
  if (!holder.ok()) return std::move(holder).status();                \
  declaration = *std::move(holder)
