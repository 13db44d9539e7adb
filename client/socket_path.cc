#include <cstdlib>
#include <string>

#include "kvtier/client.h"

namespace kvtier {

std::string DefaultSocketPath() {
  if (const char* socket = std::getenv("KVTIER_SOCKET"); socket != nullptr && *socket != '\0') {
    return socket;
  }
  const char* runtime = std::getenv("XDG_RUNTIME_DIR");
  const std::string base = runtime != nullptr && *runtime != '\0' ? runtime : "/run";
  return base + "/kvtier/kvtierd.sock";
}

}  // namespace kvtier
