// Stands in for OpenCV's umbrella header, which pulls in every module. ffcv uses these two.
#pragma once
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>
