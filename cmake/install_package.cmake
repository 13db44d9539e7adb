# What `cmake --install` lays down: the programs, and the package that find_package(kvtier) finds, with
# kvtier::client, its public headers and the protos.
include(CMakePackageConfigHelpers)

# The kvtier libraries that a target needs, itself included: a static library is of no use without them.
function(kvtier_closure result)
  set(pending ${ARGN})
  set(found)
  while(pending)
    list(POP_FRONT pending target)
    # A private dependency of a static library is linked by its users: $<LINK_ONLY:...>.
    string(REGEX REPLACE "^\\$<LINK_ONLY:(.*)>$" "\\1" target "${target}")
    if(NOT target MATCHES "^kvtier" OR NOT TARGET ${target})
      continue()
    endif()
    get_target_property(aliased ${target} ALIASED_TARGET)
    if(aliased)
      set(target ${aliased})
    endif()
    if(target IN_LIST found)
      continue()
    endif()
    list(APPEND found ${target})
    get_target_property(needed ${target} INTERFACE_LINK_LIBRARIES)
    if(needed)
      list(APPEND pending ${needed})
    endif()
  endwhile()
  set(${result} "${found}" PARENT_SCOPE)
endfunction()

if(TARGET kvtier_client)
  kvtier_closure(exported kvtier_client)
  # Directories of the source and build trees mean nothing to those who install.
  foreach(target IN LISTS exported)
    foreach(property INTERFACE_INCLUDE_DIRECTORIES INTERFACE_SYSTEM_INCLUDE_DIRECTORIES)
      get_target_property(directories ${target} ${property})
      if(directories)
        list(TRANSFORM directories REPLACE "^(/.*)$" "$<BUILD_INTERFACE:\\1>")
        set_property(TARGET ${target} PROPERTY ${property} "${directories}")
      endif()
    endforeach()
  endforeach()
  set_target_properties(kvtier_client PROPERTIES EXPORT_NAME client)
  set_target_properties(kvtier_flags PROPERTIES EXPORT_NAME flags)

  set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/kvtier")
  install(TARGETS ${exported} EXPORT kvtierTargets
          ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}"
          INCLUDES DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
  install(EXPORT kvtierTargets NAMESPACE kvtier:: DESTINATION "${package_dir}")
  install(DIRECTORY "${PROJECT_SOURCE_DIR}/client/include/kvtier"
          DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" FILES_MATCHING PATTERN "*.h")
  install(DIRECTORY "${PROJECT_SOURCE_DIR}/proto/kvtier" DESTINATION "${CMAKE_INSTALL_DATADIR}/kvtier/proto"
          FILES_MATCHING PATTERN "*.proto")
  configure_package_config_file("${CMAKE_CURRENT_LIST_DIR}/kvtierConfig.cmake.in"
    "${CMAKE_CURRENT_BINARY_DIR}/kvtierConfig.cmake"
    INSTALL_DESTINATION "${package_dir}" PATH_VARS CMAKE_INSTALL_DATADIR)
  # Before 1.0 a minor version may change the interface.
  write_basic_package_version_file("${CMAKE_CURRENT_BINARY_DIR}/kvtierConfigVersion.cmake"
    COMPATIBILITY SameMinorVersion)
  install(FILES "${CMAKE_CURRENT_BINARY_DIR}/kvtierConfig.cmake"
                "${CMAKE_CURRENT_BINARY_DIR}/kvtierConfigVersion.cmake" DESTINATION "${package_dir}")
endif()

foreach(program kvtierd kvtier)
  if(TARGET ${program})
    install(TARGETS ${program} RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
  endif()
endforeach()
