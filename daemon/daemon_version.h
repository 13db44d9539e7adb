// The version of this build, from the project's CMakeLists.txt.
#pragma once

namespace kvtier {

inline constexpr const char* kDaemonVersion = KVTIER_VERSION;

}  // namespace kvtier
